//! Guests on a real QEMU, by software emulation: a boot sector is all the guest there is.

#[cfg(test)]
#[path = "qemu/bench.rs"]
mod bench;
#[cfg(test)]
#[path = "qemu/cgroups.rs"]
mod cgroups;
#[cfg(test)]
#[path = "qemu/console.rs"]
mod console;
#[cfg(test)]
#[path = "qemu/display.rs"]
mod display;
#[cfg(test)]
#[path = "qemu/encrypted.rs"]
mod encrypted;
#[cfg(test)]
#[path = "qemu/freeze.rs"]
mod freeze;
#[cfg(test)]
#[path = "qemu/grow.rs"]
mod grow;
#[cfg(test)]
#[path = "qemu/life.rs"]
mod life;
#[cfg(test)]
#[path = "qemu/memory.rs"]
mod memory;
#[cfg(test)]
#[path = "qemu/merge.rs"]
mod merge;
#[cfg(test)]
#[path = "qemu/start.rs"]
mod start;
#[cfg(test)]
#[path = "qemu/throttle.rs"]
mod throttle;
#[cfg(test)]
#[path = "qemu/volumes.rs"]
mod volumes;

//! Stories with real guests under software emulation. They need root and QEMU; where those are
//! missing they say `SKIPPED` and why.

#[path = "linux/agent_killed.rs"]
mod agent_killed;
#[path = "linux/beyond.rs"]
mod beyond;
#[path = "linux/by_hand.rs"]
mod by_hand;
#[path = "linux/crash_points.rs"]
mod crash_points;
#[path = "linux/debian.rs"]
mod debian;
#[path = "linux/desktop.rs"]
mod desktop;
#[path = "linux/disk_full.rs"]
mod disk_full;
#[path = "linux/display.rs"]
mod display;
#[path = "linux/drift.rs"]
mod drift;
#[path = "linux/encryption.rs"]
mod encryption;
#[path = "linux/figures.rs"]
mod figures;
#[path = "linux/frozen.rs"]
mod frozen;
#[path = "linux/growth.rs"]
mod growth;
#[path = "linux/guest_killed.rs"]
mod guest_killed;
#[path = "linux/guest_tools.rs"]
mod guest_tools;
#[path = "linux/interfaces.rs"]
mod interfaces;
#[path = "linux/ipv6.rs"]
mod ipv6;
#[path = "linux/life.rs"]
mod life;
#[path = "linux/lifecycle.rs"]
mod lifecycle;
#[path = "linux/live_keys.rs"]
mod live_keys;
#[path = "linux/module.rs"]
mod module;
#[path = "linux/office_lan.rs"]
mod office_lan;
#[path = "linux/office_lan_ipv6.rs"]
mod office_lan_ipv6;
#[path = "linux/own_image.rs"]
mod own_image;
#[path = "linux/picture.rs"]
mod picture;
#[path = "linux/pools.rs"]
mod pools;
#[path = "linux/services.rs"]
mod services;
#[path = "linux/storage_crashes.rs"]
mod storage_crashes;
#[path = "linux/storage_files.rs"]
mod storage_files;
#[path = "linux/storage_scene.rs"]
mod storage_scene;
#[path = "linux/three_sessions.rs"]
mod three_sessions;
#[path = "linux/two_tier.rs"]
mod two_tier;
#[path = "linux/two_vpcs.rs"]
mod two_vpcs;
#[path = "linux/ups_and_downs.rs"]
mod ups_and_downs;
#[path = "linux/viewer.rs"]
mod viewer;
#[path = "linux/volumes.rs"]
mod volumes;
#[path = "linux/waits.rs"]
mod waits;

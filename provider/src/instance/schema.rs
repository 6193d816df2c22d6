//! The attributes of `weft_instance`, as resource and as data source.

use tfplugin::timeouts::{self, Operation};
use tfplugin::{Attribute, Schema, Type, Validator};
use weft_model::{
    AutoRestart, GroupId, HOP_LIMITS, HttpEndpoint, HttpTokens, ImageId, MEMORY_MIB,
    SHUTDOWN_SECONDS, SubnetId, VCPUS, WaitFor,
};

use super::guard::POLICIES;
use crate::{checks, tags};

/// `power_state` as people may write it.
pub(crate) const POWER_WORDS: [&str; 3] = ["running", "stopped", "unmanaged"];

pub(crate) fn schema() -> Schema {
    Schema::new(
        "A virtual machine. Attributes change it live, by a restart, or by a replacement; each says \
         which. A plan that restarts or replaces an instance warns.",
    )
    .subcategory("Compute")
    .attributes(what_it_is())
    .attributes(how_it_is_connected())
    .attributes(what_it_is_given())
    .attributes(how_it_is_managed())
    .attributes(tags::attributes())
    .attributes(what_the_agent_chose())
}

fn what_it_is() -> [Attribute; 10] {
    [
        Attribute::string("name", "For people, and the guest's host name where it can be one. Changes live (the guest sees it at its next start).")
            .validate(checks::name()),
        Attribute::string("image_id", "What it is made from. A change replaces the instance, unless `replace_on_image_change` is false.")
            .required()
            .validate(checks::id::<ImageId>(ImageId::PREFIX, "an image")),
        Attribute::bool("replace_on_image_change", "Whether another `image_id` replaces the instance. With false it is only recorded, and `image_outdated` becomes true; set to true later, it replaces an instance whose image is outdated.")
            .default(true),
        Attribute::string("instance_type", "A named size: a built-in one (see `data.weft_instance_types`), or `weft_instance_type.NAME.name`. Either this, or `vcpus` and `memory_mib`. A change restarts a running instance, unless it grows within `max_vcpus` and `max_memory_mib`.")
            .validate(Validator::length(1..=255)),
        Attribute::number("vcpus", "Virtual processors; filled in from `instance_type`. A change restarts a running instance; with `max_vcpus`, growth is live.")
            .optional_computed()
            .validate(checks::number("vCPUs", checks::wide(VCPUS))),
        Attribute::number("memory_mib", "Memory in MiB; filled in from `instance_type`. A change restarts a running instance; with `max_memory_mib`, growth is live, 64 times before the guest's next start.")
            .optional_computed()
            .validate(checks::number("MiB of memory", checks::wide(MEMORY_MIB))),
        Attribute::number("max_vcpus", "How many virtual processors it may grow to while its guest runs; at least what it has. Unset, growth restarts it. A change restarts a running instance. The guide on updates says what a guest does with them.")
            .validate(checks::number("vCPUs", checks::wide(VCPUS))),
        Attribute::number("max_memory_mib", "How much memory, in MiB, it may grow to while its guest runs; at least what it has, and both are multiples of 128. Unset, growth restarts it. A change restarts a running instance.")
            .validate(checks::number("MiB of memory", checks::wide(MEMORY_MIB))),
        Attribute::object("root_volume", "The root disk; unset, as large as its image. Left out again, it stays as it is.", [
            Attribute::number("size_gib", "Its size in GiB, not less than the image's. It grows live: a guest that runs sees a larger disk at once, and grows what is on it itself. It never shrinks.")
                .required()
                .validate(checks::number("GiB of disk", 1..=65536)),
        ].into_iter().chain(crate::volume::limits()))
            .optional_computed(),
        Attribute::bool("display", "Whether it has a display, a graphics card and a pointer: `weft screenshot` and `weft vnc` show it. A change restarts a running instance.")
            .default(false),
    ]
}

fn how_it_is_connected() -> [Attribute; 5] {
    [
        Attribute::string("subnet_id", "Where its address is from; unset, the default subnet.")
            .optional_computed()
            .replace_on_change()
            .validate(checks::id::<SubnetId>(SubnetId::PREFIX, "a subnet")),
        Attribute::string("private_ip", "Its address; unset, the lowest free one. Kept for its whole life.")
            .optional_computed()
            .replace_on_change()
            .validate(checks::ipv4()),
        Attribute::bool("associate_public_ip_address", "Whether it gets an address of the public pool, for its whole life; unset, what its subnet says.")
            .optional_computed()
            .replace_on_change(),
        Attribute::set("security_group_ids", Type::String, "Its security groups; unset, the VPC's default group, which lets its own members in and everything out. Changes live.")
            .validate(checks::group_count())
            .validate(checks::ids::<GroupId>(GroupId::PREFIX, "security groups")),
        Attribute::bool("source_dest_check", "Whether its first network interface may send only from its own addresses. With `false` it may also send from any address outside of the VPC's ranges, as what routes or translates for others does; never as another of the VPC, nor out of the VPC. Not in a VPC with `mode = \"bridge\"`, where all are checked. Changes live.")
            .default(true),
    ]
}

fn what_it_is_given() -> [Attribute; 7] {
    [
        Attribute::set("key_names", Type::String, "The names of the key pairs whose owners may log in. A change reaches a running guest within a second where its image follows its keys (the guide on live keys); where the guest has not been seen to, the plan warns.")
            .validate(checks::names()),
        Attribute::string("user_data", "Given to the guest as it is. A change restarts a running instance, or replaces it with `user_data_replace_on_change`. It is in the state.")
            .validate(checks::user_data()),
        Attribute::string("user_data_base64", "As `user_data`, for any bytes, as `filebase64()` or `base64encode()` make it.")
            .validate(checks::user_data_base64()),
        Attribute::string("user_data_wo", "As `user_data`, but in no state and no plan (Terraform 1.11 and later): for secrets, from an ephemeral value. `user_data_wo_version` says when they are sent.")
            .sensitive()
            .write_only()
            .validate(checks::user_data()),
        Attribute::number("user_data_wo_version", "The version of `user_data_wo`, which goes with it: with another number they are sent anew, and the plan announces what other `user_data` do (where the bytes are the same after all, nothing is restarted). While the number stays, and the instance is not made anew, `user_data_wo` may be left out.")
            .validate(Validator::range(0..=i64::from(i32::MAX))),
        Attribute::bool("user_data_replace_on_change", "Whether other user data replace the instance.")
            .default(false),
        Attribute::object("metadata_options", "How the guest's metadata are served on 169.254.169.254, as in EC2. Changes live.", [
            Attribute::string("http_endpoint", "`enabled` or `disabled`: every request is refused, reports of cloud-init and signals too. Unset, `enabled`.")
                .validate(Validator::one_of(HttpEndpoint::WORDS.iter().copied())),
            Attribute::string("http_tokens", "`required` (IMDSv2) or `optional`: metadata are read without a token too (IMDSv1). Unset, `required`.")
                .validate(Validator::one_of(HttpTokens::WORDS.iter().copied())),
            Attribute::number("http_put_response_hop_limit", "How many hops the answer with a token goes: containers behind the guest's own bridge need 2. Unset, 1.")
                .validate(checks::number("hops", checks::wide(HOP_LIMITS))),
        ]),
    ]
}

fn how_it_is_managed() -> [Attribute; 7] {
    [
        Attribute::string("power_state", "`running`, `stopped`, or `unmanaged`: left to `weft start` and `weft stop`. An instance that has stopped by itself shows as `stopped`, so that the next apply starts it; one that is being removed as `terminating`, so that the next apply makes another one. Changes live.")
            .default("running")
            .validate(Validator::one_of(POWER_WORDS)),
        Attribute::string("auto_restart", "Whether a guest that has ended is started again: `never`, `on_failure` (its kernel panicked, or its hypervisor died) or `always` (also where the guest powered itself off; never where it was stopped). After 1 s, then after pauses that double up to 5 minutes, until a launch has run for 10 minutes. Changes live.")
            .default("never")
            .validate(Validator::one_of(AutoRestart::WORDS.iter().copied())),
        Attribute::bool("termination_protection", "Whether it cannot be removed: neither by a plan that replaces or destroys it, nor by `weft rm`. To remove it, set it to false in an apply of its own. Changes live.")
            .default(false),
        Attribute::number("shutdown_timeout_seconds", "How long its guest may take to shut down before it is ended, in seconds; unset, what the agent was started with (`--shutdown-grace`). 0 ends it at once. Changes live.")
            .validate(checks::number("seconds", checks::wide(SHUTDOWN_SECONDS))),
        Attribute::string("apply_policy", "How far an apply may go: `live_only` refuses a plan that would restart or replace the instance, `allow_restart` one that would replace it, with an error at each attribute that brings it about. Unset, `allow_replace`. Changes live, and holds for the plan that it is changed in.")
            .validate(Validator::one_of(POLICIES)),
        Attribute::string("wait_for", "What a creation or start waits for: `none`, `running`, `ssh` (a server answers with the injected host key), `cloud_init` (the guest reports that cloud-init ended well; its errors are shown) or `signal` (the guest signals success). Unset, `ssh` where `key_names` is set, else `running`.")
            .validate(Validator::one_of(WaitFor::WORDS.iter().copied())),
        timeouts::attribute([Operation::Create, Operation::Update, Operation::Delete]),
    ]
}

fn what_the_agent_chose() -> [Attribute; 10] {
    let computed = |name: &str, text: &str| Attribute::string(name, text).computed();
    [
        computed("id", "`i-` and 17 hexadecimal digits."),
        Attribute::bool("image_outdated", "Whether it was made from another image than `image_id`; only with `replace_on_image_change = false`.").computed(),
        computed("public_ip", "Its address of the public pool, where it was made with one; an elastic IP is not shown here."),
        computed("mac_address", "Of its network interface; kept for its whole life."),
        Attribute::list(
            "ipv6_addresses",
            Type::String,
            "Its IPv6 address, where its subnet has an `ipv6_cidr_block`; kept for its whole life.",
        )
        .computed(),
        computed("host_id", "Where it runs."),
        computed("launched_at", "When the guest was started last (RFC 3339)."),
        Attribute::list(
            "ssh_host_public_keys",
            Type::String,
            "The guest's SSH host keys, one line each: nobody has to trust on first use.",
        )
        .computed(),
        computed("known_hosts_line", "Address and host key, for a `known_hosts` file."),
        computed("ssh_command", "`ssh USER@ADDRESS`, for a machine that has a route to it."),
    ]
}

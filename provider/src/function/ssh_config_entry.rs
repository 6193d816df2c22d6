//! `ssh_config_entry(alias, options)`: a block for `~/.ssh/config`.

use std::collections::BTreeMap;

use tfplugin::{Arguments, Function, FunctionError, Parameter, Signature, Type, Value};

use super::{at, check_keys};
use crate::ssh_config::{entry, is_alias};

#[derive(Debug)]
pub(super) struct SshConfigEntry;

const KEYS: [&str; 7] =
    ["host_name", "instance_id", "user", "port", "identity_file", "known_hosts_file", "endpoint"];

impl Function for SshConfigEntry {
    fn name(&self) -> &str {
        "ssh_config_entry"
    }

    fn signature(&self) -> Signature {
        Signature::new(
            "A `Host` block of ssh's configuration for an instance.",
            "Makes a `Host` block for `~/.ssh/config`, or for a file that it includes, so that \
             `ssh ALIAS`, `scp`, rsync and Ansible reach an instance. Several are joined with \
             `join(\"\\n\", [...])`.\n\n\
             The options are a map with these keys, of which `host_name` or `instance_id` is needed:\n\n\
             - `host_name`: the instance's address, or a name of it.\n\
             - `instance_id`: goes through the agent (`ProxyCommand weft proxy ID`), for a machine \
             that has no route to the guest.\n\
             - `endpoint`: where the agent listens, for `weft proxy`; left out, it is the \
             environment's `WEFT_ENDPOINT`.\n\
             - `user`: who logs in.\n\
             - `port`: the TCP port, unless it is 22.\n\
             - `identity_file`: the private key, such as `~/.ssh/id_ed25519`; no other is tried then.\n\
             - `known_hosts_file`: a file with `weft_instance.known_hosts_line` in it, for which \
             `host_name` has to be the instance's `private_ip`. The host key has to be in it then: \
             nobody trusts on first use.\n\n\
             Values with line breaks, quotes or what else ssh reads as more than a value are refused.",
            Type::String,
        )
        .parameter(Parameter::new("alias", Type::String, "What is typed: `ssh ALIAS`."))
        .parameter(Parameter::new("options", Type::map(Type::String), "Where and how, as above."))
    }

    fn call(&self, arguments: &Arguments) -> Result<Value, FunctionError> {
        let alias: String = arguments.read(0)?;
        if !is_alias(&alias) {
            let problem = format!(
                "the alias {alias:?} is refused: it has to be letters, digits and ._-, without a dash \
                 at its beginning"
            );
            return Err(at(0)(problem));
        }
        let options: BTreeMap<String, Option<String>> = arguments.read(1)?;
        check_keys(&options, &KEYS).map_err(at(1))?;
        let entry = entry(&alias, &options).map_err(at(1))?;
        Ok(Value::from(entry))
    }
}

//! `examples/04-two-tier` as it is drawn: packets that arrive, and packets that do not, between its
//! guests and a machine beyond the host.

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::process::Command;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use weft_acceptance::{Change, KeyFile, Lab, NetNs, Plan, Terraform, eventually, run, within};

use crate::beyond::{HOST, OFFICE, give_back, office, serve};
use crate::module::example;

/// A part of the network that the host has with the office.
const POOL: &str = "192.0.2.16/28";
/// The first host's address of it.
const ELASTIC: &str = "192.0.2.17";
/// The first address of the private subnet; who has which of the public one is chance.
const DB: &str = "10.30.2.4";
const SILENCE: Duration = Duration::from_secs(3);

/// What the web server at `to` says to `from`; `None` where no connection comes about.
fn get(from: &NetNs, to: &str) -> Result<Option<String>> {
    let to: SocketAddr = to.parse()?;
    let Ok(mut stream) = from.connect(to, SILENCE)? else { return Ok(None) };
    stream.set_read_timeout(Some(within()))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").context("ask the web server")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("read the web server's answer")?;
    Ok(answer.lines().last().map(str::to_owned))
}

/// The guests, entered by the agent: past every group.
struct Guests<'a> {
    lab: &'a Lab,
    key: &'a KeyFile,
    web: &'a str,
}

impl Guests<'_> {
    fn run(&self, name: &str, command: &str) -> Result<String> {
        let key = self.key.private.to_string_lossy();
        let said = self.lab.weft(&["ssh", "-i", &key, name, "--", command])?.success()?;
        Ok(said.stdout.trim().to_owned())
    }

    /// What the web server at `to` says to a guest; `None` where it does not answer. (`timeout` and
    /// a word: `wget -T` of a static busybox crashes.)
    fn get(&self, name: &str, to: &str) -> Result<Option<String>> {
        let get = format!("timeout 4 wget -q -O - http://{to}/ 2>/dev/null || echo nothing");
        let said = self.run(name, &get)?;
        Ok((said != "nothing").then_some(said))
    }

    fn pings(&self, name: &str, to: &str) -> Result<bool> {
        let ping = format!("ping -c 1 -W 3 {to} >/dev/null && echo yes || echo no");
        Ok(self.run(name, &ping)? == "yes")
    }

    /// As whom a guest's request comes to the office.
    fn comes_as(&self, name: &str, who: &Receiver<SocketAddr>) -> Result<Option<IpAddr>> {
        while who.try_recv().is_ok() {}
        if self.get(name, &format!("{OFFICE}:8080"))?.as_deref() != Some("hello") {
            return Ok(None);
        }
        Ok(Some(who.recv_timeout(within())?.ip()))
    }

    /// Packets that the NAT instance has translated; connections' first ones, as it counts.
    fn translated(&self) -> Result<u64> {
        let rules = self.run("nat", "sudo nft list table ip nat")?;
        let mut words = rules.split_whitespace().skip_while(|word| *word != "packets");
        words.nth(1).and_then(|count| count.parse().ok()).context("a counter of packets")
    }
}

fn address(text: &str) -> Result<Option<IpAddr>> {
    Ok(Some(text.parse()?))
}

fn says(name: &str) -> Option<String> {
    Some(format!("hello from {name}"))
}

/// The user data's services are up a little after SSH, which the apply waits for.
fn wait_for_services(office: &NetNs, guests: &Guests<'_>) -> Result<()> {
    eventually("the web server", within(), || get(office, &format!("{ELASTIC}:80")))?;
    eventually("the database", within(), || guests.get("web", &format!("{DB}:5432")))?;
    eventually("the NAT", within(), || guests.get("db", &format!("{OFFICE}:8080")))?;
    Ok(())
}

/// From outside: by the elastic IP, by the host's port, and no further.
fn from_outside(office: &NetNs, guests: &Guests<'_>) -> Result<()> {
    let host = guests.lab.outside()?;
    ensure!(get(office, &format!("{ELASTIC}:80"))? == says("web"), "by the elastic IP");
    ensure!(get(office, &format!("{HOST}:8080"))? == says("web"), "by the host's port");
    ensure!(get(host, &format!("{ELASTIC}:80"))? == says("web"), "from the host");
    guests.run("web", "httpd -p 8081 -h /srv/www")?;
    let web = guests.web;
    ensure!(guests.get("web", &format!("{web}:8081"))? == says("web"), "it does not listen");
    ensure!(get(office, &format!("{ELASTIC}:8081"))?.is_none(), "no group opens this port");
    ensure!(guests.get("db", &format!("{web}:8081"))?.is_none(), "to the database neither");
    office.output(&["ip", "route", "add", "10.30.0.0/16", "via", HOST])?;
    for from in [office, host] {
        ensure!(get(from, &format!("{DB}:5432"))?.is_none(), "the database is not for outside");
    }
    ensure!(get(office, &format!("{HOST}:5432"))?.is_none());
    Ok(())
}

/// Between the tiers: what the groups name each other for.
fn between(guests: &Guests<'_>) -> Result<()> {
    let web = guests.web;
    ensure!(guests.get("web", &format!("{DB}:5432"))? == says("db"), "web to db");
    ensure!(guests.get("nat", &format!("{DB}:5432"))?.is_none(), "nat is not of the group web");
    ensure!(guests.get("db", &format!("{web}:80"))? == says("web"), "db to web");
    ensure!(guests.pings("web", DB)? && guests.pings("db", web)?, "the tiers ping each other");
    ensure!(!guests.pings("nat", DB)? && !guests.pings("nat", web)?, "nobody takes nat's");
    Ok(())
}

/// From a tier to what the other one shows the world: as the world does, or straight on.
fn from_inside_by_public_ways(guests: &Guests<'_>) -> Result<()> {
    for name in ["db", "nat", "web"] {
        for to in [format!("{ELASTIC}:80"), format!("{HOST}:8080")] {
            ensure!(guests.get(name, &to)? == says("web"), "{name} to {to}");
        }
    }
    Ok(())
}

/// Megabytes, as segments that no link carries whole: between the tiers, and through the NAT.
fn in_bulk(office: &NetNs, guests: &Guests<'_>) -> Result<()> {
    let sum = guests.run("db", "head -c 4194304 /dev/urandom >/tmp/bulk; md5sum </tmp/bulk")?;
    guests.run("db", "sudo cp /tmp/bulk /srv/db/")?;
    let got = guests.run("web", &format!("wget -q -O - http://{DB}:5432/bulk | md5sum"))?;
    ensure!(got == sum, "web got {got} of the database's {sum}");
    give_back(office, format!("{OFFICE}:7").parse()?)?;
    let before = guests.translated()?;
    let got = guests.run("db", &format!("timeout 60 nc {OFFICE} 7 </tmp/bulk | md5sum"))?;
    ensure!(got == sum, "the office gave back {got} for {sum}");
    ensure!(guests.translated()? > before, "it did not go through the NAT");
    Ok(())
}

/// Logs in to the database from the office with the words that the example tells.
fn log_in_by_the_web_server(
    lab: &Lab,
    office: &NetNs,
    tf: &Terraform,
    key: &KeyFile,
) -> Result<()> {
    let output = |name: &str| anyhow::Ok(tf.run(&["output", "-raw", name])?.success()?.stdout);
    let known_hosts = lab.directory().join("known_hosts");
    std::fs::write(&known_hosts, output("known_hosts_lines")?)?;
    // What a person has in their home.
    let config = lab.directory().join("ssh_config");
    let text = format!(
        "BatchMode yes\nStrictHostKeyChecking yes\nGlobalKnownHostsFile /dev/null\n\
         UserKnownHostsFile {}\nIdentitiesOnly yes\nIdentityFile {}\n",
        known_hosts.display(),
        key.private.display()
    );
    std::fs::write(&config, text)?;
    for (name, guest) in [("ssh_command", "web"), ("ssh_command_db", "db")] {
        let words = output(name)?;
        let words = words.trim().strip_prefix("ssh ").context("ssh_command is not ssh")?;
        let mut ssh: Command = office.command("ssh");
        ssh.arg("-F").arg(&config).args(words.split(' ')).arg("hostname");
        let said = run(ssh, within())?.success()?.stdout;
        ensure!(said.trim() == guest, "{name} led to {said:?}");
    }
    Ok(())
}

#[test]
fn the_two_tier_example_works_as_drawn() -> Result<()> {
    let Some(mut lab) = Lab::linux_with(&["--public-pool", POOL])? else { return Ok(()) };
    let office = office(&lab)?;
    let who = serve(&office, format!("{OFFICE}:8080").parse()?)?;
    let key = lab.key("id")?;
    let terraform = lab.terraform()?;
    example(&terraform, "04-two-tier", &key)?;
    terraform.apply()?;
    terraform.assert_plan_is_empty()?;
    let state = terraform.state()?;
    let web = state.text("weft_instance.web", "private_ip")?;
    let guests = Guests { lab: &lab, key: &key, web: &web };
    ensure!(state.text("weft_elastic_ip.web", "public_ip")? == ELASTIC);
    ensure!(state.text("weft_instance.db", "private_ip")? == DB);

    wait_for_services(&office, &guests)?;
    from_outside(&office, &guests)?;
    between(&guests)?;
    from_inside_by_public_ways(&guests)?;
    in_bulk(&office, &guests)?;
    log_in_by_the_web_server(&lab, &office, &terraform, &key)?;

    // Out: the web server as its elastic IP, the database through the NAT and then as the host.
    ensure!(guests.comes_as("web", &who)? == address(ELASTIC)?);
    let before = guests.translated()?;
    ensure!(guests.comes_as("web", &who)?.is_some() && guests.translated()? == before);
    ensure!(guests.comes_as("db", &who)? == address(HOST)?);
    ensure!(guests.translated()? > before, "it did not go through the NAT");
    ensure!(guests.pings("db", OFFICE)?, "ping goes through the NAT");

    // Without the NAT the private tier has no way out, the other one is as it was.
    let nat = state.text("weft_instance.nat", "id")?;
    lab.weft(&["stop", "nat"])?.success()?;
    lab.wait_for_state(&nat, "stopped")?;
    ensure!(guests.comes_as("db", &who)?.is_none(), "it went out beside the NAT");
    ensure!(!guests.pings("db", OFFICE)?);
    ensure!(guests.comes_as("web", &who)? == address(ELASTIC)?);
    // The VPC's own services are no way out: names are told as ever.
    ensure!(guests.get("web", "db:5432")? == says("db"), "inside all goes on");
    ensure!(guests.get("db", "web")? == says("web"), "inside all goes on");
    lab.weft(&["start", "nat"])?.success()?;
    lab.wait_for_state(&nat, "running")?;
    let again = || Ok(guests.comes_as("db", &who)?.filter(|from| from.to_string() == HOST));
    eventually("the NAT translates again", within(), again)?;
    terraform.assert_plan_is_empty()?;

    // The network is the kernel's: it works without an agent, and a new one finds it as it is.
    lab.agent().kill_9()?;
    ensure!(get(&office, &format!("{ELASTIC}:80"))? == says("web"), "by the elastic IP");
    ensure!(get(&office, &format!("{HOST}:8080"))? == says("web"), "by the host's port");
    lab.start_agent()?;
    terraform.assert_plan_is_empty()?;
    let guests = Guests { lab: &lab, key: &key, web: &web };
    between(&guests)?;
    ensure!(guests.comes_as("db", &who)? == address(HOST)?);
    ensure!(guests.comes_as("web", &who)? == address(ELASTIC)?);

    move_the_elastic_ip(&terraform, &office, &guests, &who)?;
    replace_the_nat(&terraform, &guests, &who)?;

    terraform.destroy()?;
    ensure!(lab.hypervisors().is_empty(), "{:?}", lab.hypervisors());
    ensure!(lab.count("vpcs")? == 1, "only the default VPC is left");
    let routes = lab.outside()?.output(&["ip", "route", "show"])?;
    ensure!(!routes.contains(ELASTIC), "the elastic IP's route is left:\n{routes}");
    let proxies = lab.outside()?.output(&["ip", "neigh", "show", "proxy"])?;
    ensure!(proxies.trim().is_empty(), "it is still answered for: {proxies}");
    lab.outside()?.output(&["ip", "link", "delete", "office"])?;
    lab.close()
}

/// What a plan changes.
fn changed(plan: &Plan) -> Vec<String> {
    let changes = plan.changes().into_iter().filter(|(_, change)| *change != Change::Nothing);
    let mut changed: Vec<_> = changes.map(|(address, _)| address).collect();
    changed.sort();
    changed
}

/// To the NAT instance, in one apply: all that goes through it goes out as that address.
fn move_the_elastic_ip(
    terraform: &Terraform,
    office: &NetNs,
    guests: &Guests<'_>,
    who: &Receiver<SocketAddr>,
) -> Result<()> {
    terraform.write(
        "moved_override.tf",
        "resource \"weft_elastic_ip_association\" \"web\" {\n  \
         instance_id = weft_instance.nat.id\n}\n",
    )?;
    let changed = changed(&terraform.plan()?);
    ensure!(changed == ["weft_elastic_ip_association.web"], "more moves: {changed:?}");
    terraform.apply_plan()?;
    terraform.assert_plan_is_empty()?;
    ensure!(guests.comes_as("db", who)? == address(ELASTIC)?, "the NAT has the address");
    ensure!(guests.comes_as("web", who)? == address(HOST)?, "the web server still has it");
    ensure!(get(office, &format!("{ELASTIC}:80"))?.is_none(), "nat's group lets nobody in");
    ensure!(get(office, &format!("{HOST}:8080"))? == says("web"), "by the host's port as before");
    Ok(())
}

/// Another NAT instance in the first one's place, in one apply: the route and the elastic IP follow.
fn replace_the_nat(
    terraform: &Terraform,
    guests: &Guests<'_>,
    who: &Receiver<SocketAddr>,
) -> Result<()> {
    terraform.write(
        "replaced_override.tf",
        "resource \"weft_instance\" \"nat\" {\n  \
         private_ip = cidrhost(weft_subnet.public.cidr_block, 99)\n}\n",
    )?;
    let changed = changed(&terraform.plan()?);
    let with_it =
        ["weft_elastic_ip_association.web", "weft_instance.nat", "weft_route_table.private"];
    ensure!(changed == with_it, "not what the NAT takes with it: {changed:?}");
    terraform.apply_plan()?;
    terraform.assert_plan_is_empty()?;
    let again = || Ok((guests.comes_as("db", who)? == address(ELASTIC)?).then_some(()));
    eventually("the new NAT translates", within(), again)?;
    ensure!(guests.translated()? > 0);
    Ok(())
}

//! Scripted lives of meters, and one that is random.

use proptest::prelude::*;
use weft_model::Timestamp;

use super::*;

/// A machine whose two clocks are moved by hand.
#[derive(Clone)]
struct Machine {
    wall_ms: i64,
    ticks_ms: u64,
    boot: u32,
}

impl Machine {
    fn new() -> Self {
        let at: Timestamp = "2026-11-22T06:00:00Z".parse().unwrap();
        Self { wall_ms: at.as_millisecond(), ticks_ms: 1_000, boot: 1 }
    }

    fn now(&self) -> Moment {
        let at = Timestamp::from_millisecond(self.wall_ms).unwrap();
        Moment { at, boot: format!("boot-{}", self.boot), ticks_ms: self.ticks_ms }
    }

    /// Lets time pass.
    fn pass(&mut self, seconds: i64) -> Moment {
        self.wall_ms += seconds * 1000;
        self.ticks_ms += u64::try_from(seconds).unwrap() * 1000;
        self.now()
    }

    fn set_clock(&mut self, by_seconds: i64) {
        self.wall_ms += by_seconds * 1000;
    }

    fn restart(&mut self, after_seconds: i64) {
        self.wall_ms += after_seconds * 1000;
        (self.ticks_ms, self.boot) = (500, self.boot + 1);
    }
}

fn item(name: &str) -> Item {
    Item::Instance { instance_type: Some(name.to_owned()), vcpus: 1, memory_mib: 512 }
}

fn meter() -> Meter {
    Meter::idle(item("small"), Labels::default())
}

fn seconds(entries: &[Entry], of: &str) -> u64 {
    let of = entries.iter().filter(|entry| entry.item == item(of));
    let ms: u64 = of.map(|entry| entry.quantity).sum();
    assert_eq!(ms % 1000, 0);
    ms / 1000
}

fn running(started: &Moment) -> Run {
    Run::Running { started: started.clone() }
}

fn over(started: &Moment, ended: Option<&Moment>) -> Run {
    Run::Over { started: started.clone(), ended: ended.cloned() }
}

#[test]
fn a_day_of_an_instance_is_counted_to_the_second() {
    let (mut machine, mut meter, mut all) = (Machine::new(), meter(), Vec::new());
    // Starts; two looks an hour apart; the clock is set in between.
    let started = machine.now();
    all.extend(meter.see(&running(&started), None));
    machine.pass(1800);
    machine.set_clock(-7200);
    all.extend(meter.advance(&machine.pass(1800)));
    all.extend(meter.see(&running(&started), None));
    assert_eq!(seconds(&all, "small"), 3600);
    // The agent is killed: the holder sees the guest's end 1000 s later, an agent much later.
    let ended = machine.pass(1000);
    machine.pass(50_000);
    all.extend(meter.see(&over(&started, Some(&ended)), None));
    assert_eq!(seconds(&all, "small"), 4600);
    // Looking again counts nothing again.
    all.extend(meter.see(&over(&started, Some(&ended)), None));
    all.extend(meter.see(&Run::Nothing, None));
    assert_eq!(seconds(&all, "small"), 4600);
    // Resized and started.
    meter.expect(item("large"), Labels::default());
    let again = machine.pass(100);
    all.extend(meter.see(&running(&again), None));
    all.extend(meter.advance(&machine.pass(50)));
    assert_eq!((seconds(&all, "small"), seconds(&all, "large")), (4600, 50));
}

#[test]
fn a_run_that_no_agent_ever_saw_is_counted_whole_and_once() {
    let (mut machine, mut meter) = (Machine::new(), meter());
    let started = machine.now();
    let ended = machine.pass(77);
    machine.pass(1000);
    let run = over(&started, Some(&ended));
    assert_eq!(seconds(&meter.see(&run, None), "small"), 77);
    assert_eq!(meter.see(&run, None), []);
}

#[test]
fn a_guest_that_died_with_its_host_is_counted_up_to_the_last_sign_of_life() {
    let (mut machine, mut meter) = (Machine::new(), meter());
    let started = machine.now();
    meter.see(&running(&started), None);
    let heartbeat = machine.pass(600);
    machine.pass(20);
    machine.restart(5000);
    let all = meter.see(&Run::Nothing, Some(&heartbeat));
    assert_eq!(seconds(&all, "small"), 600);
    // Started again with the same number of launch: another run all the same.
    let again = machine.now();
    meter.see(&running(&again), Some(&heartbeat));
    assert_eq!(seconds(&meter.advance(&machine.pass(9)), "small"), 9);
}

#[test]
fn a_sign_of_life_of_another_boot_says_nothing() {
    let (mut machine, mut meter) = (Machine::new(), meter());
    let started = machine.now();
    meter.see(&running(&started), None);
    machine.restart(100);
    let of_the_new_boot = machine.pass(1000);
    assert_eq!(meter.see(&Run::Nothing, Some(&of_the_new_boot)), []);
    assert!(!meter.is_counting());
}

#[test]
fn another_guest_than_the_known_one_ends_that() {
    let (mut machine, mut meter) = (Machine::new(), meter());
    let first = machine.now();
    meter.see(&running(&first), None);
    let seen = machine.pass(10);
    let second = machine.pass(5);
    assert_eq!(seconds(&meter.see(&running(&second), Some(&seen)), "small"), 10);
    assert_eq!(seconds(&meter.advance(&machine.pass(3)), "small"), 3);
}

#[test]
fn tags_are_those_of_the_time() {
    let (mut machine, now) = (Machine::new(), Machine::new().now());
    let team = |name: &str| Labels {
        name: None,
        tags: Tags::parse([("team".to_owned(), name.to_owned())]).unwrap(),
    };
    let mut meter = Meter::counting(Item::PublicIp, team("a"), now);
    let first = meter.relabel(Item::PublicIp, team("b"), &machine.pass(60));
    assert_eq!((first.len(), &first[0].labels, first[0].quantity), (1, &team("a"), 60_000));
    assert_eq!(meter.relabel(Item::PublicIp, team("b"), &machine.pass(1)), [], "nothing changed");
    let second = meter.end(&machine.pass(1));
    assert_eq!((&second[0].labels, second[0].quantity), (&team("b"), 2_000));
    assert_eq!(meter.end(&machine.pass(5)), [], "ended already");
}

#[test]
fn what_outlives_its_hosts_boots_is_counted_across_them_by_the_wall_clock() {
    let (mut machine, now) = (Machine::new(), Machine::new().now());
    let mut meter = Meter::counting(Item::PublicIp, Labels::default(), now);
    machine.pass(100);
    machine.restart(50);
    let entries = meter.advance(&machine.now());
    assert_eq!(entries.iter().map(|entry| entry.quantity).sum::<u64>(), 150_000);
}

#[test]
fn bytes_never_go_back() {
    let (machine, mut meter) = (Machine::new(), meter());
    let mut look = |space: &str, index, bytes| {
        let sent = Sent { space: space.to_owned(), index, bytes };
        meter.sent("eni-1", sent, &machine.now()).map(|entry| entry.quantity)
    };
    #[rustfmt::skip]
    let cases = [
        ("a", 4, 100, Some(100)), ("a", 4, 100, None), ("a", 4, 150, Some(50)),
        ("a", 4, 120, None),      // read before the last reading
        ("a", 5, 170, Some(170)), // made anew, with a higher counter than the former one's
        ("a", 4, 200, None),      // the former one, read before it was made anew
        ("b", 5, 20, Some(20)),   // the same index in another namespace
        ("c", 9, 0, None), ("c", 9, 5, Some(5)),
    ];
    for (space, index, bytes, want) in cases {
        assert_eq!(look(space, index, bytes), want, "{space} {index} {bytes}");
    }
}

/// What may happen to a machine.
#[derive(Clone, Debug)]
enum Event {
    Pass(i64),
    SetClock(i64),
    Toggle,
    Look,
    Advance,
    Relabel,
    /// The agent dies; what was not stored with the last change is read again.
    Kill,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        4 => (0_i64..100_000).prop_map(Event::Pass),
        1 => (-10_000_000_i64..10_000_000).prop_map(Event::SetClock),
        3 => Just(Event::Toggle),
        4 => Just(Event::Look),
        2 => Just(Event::Advance),
        1 => Just(Event::Relabel),
        1 => Just(Event::Kill),
    ];
    proptest::collection::vec(event, 1..60)
}

proptest! {
    /// Guests start and end whether somebody looks or not, as long as each is looked at once before
    /// the next one takes its place (the agent does so before it starts one).
    #[test]
    fn every_second_that_a_guest_ran_is_counted_once(script in events()) {
        let (mut machine, mut meter) = (Machine::new(), meter());
        let (mut counted, mut ran) = (0_u64, 0_u64);
        let mut run = Run::Nothing;
        let mut count = |entries: Vec<Entry>| {
            counted += entries.iter().map(|entry| entry.quantity).sum::<u64>();
        };
        for (number, event) in script.iter().enumerate() {
            match event {
                Event::Pass(seconds) => {
                    machine.pass(*seconds);
                    if let Run::Running { .. } = run {
                        ran += u64::try_from(*seconds).unwrap() * 1000;
                    }
                }
                Event::SetClock(by) => machine.set_clock(*by),
                Event::Toggle => match run.clone() {
                    Run::Running { started } => run = over(&started, Some(&machine.now())),
                    _ => {
                        count(meter.see(&run, None));
                        machine.pass(1);
                        run = running(&machine.now());
                    }
                },
                Event::Look => count(meter.see(&run, None)),
                // An agent advances only what it has just seen.
                Event::Advance => {
                    count(meter.see(&run, None));
                    count(meter.advance(&machine.now()));
                }
                Event::Relabel => {
                    count(meter.see(&run, None));
                    let name = Some(number.to_string());
                    let labels = Labels { name, ..Labels::default() };
                    count(meter.relabel(meter.item.clone(), labels, &machine.now()));
                }
                Event::Kill => {
                    let stored = serde_json::to_vec(&meter).unwrap();
                    meter = serde_json::from_slice(&stored).unwrap();
                }
            }
        }
        count(meter.see(&run, None));
        count(meter.advance(&machine.now()));
        prop_assert_eq!(counted, ran);
    }
}

//! Children of uneven speed behind one relay, without cells: how often does a block cross the uplink?

use std::{cmp::Reverse, collections::BinaryHeap, sync::Arc, time::Duration};

use bytes::Bytes;
use bytestring::ByteString;
use tokio::time::Instant;

use super::{
    cache::{Answered, Asked, Cache, Learnt, Release, Verdict},
    pull::{Asker, Hop, Reply},
};
use crate::{
    stats::{Budget, Counters},
    transfer::{BlockAsk, Token},
    wire::Headers,
};

const BLOCK: usize = 256 * 1024;
const MIB: f64 = 1048576.0;

/// A receiver.
#[derive(Clone)]
struct Child {
    /// Bytes per second of its link.
    rate: f64,
    /// When it begins.
    start: f64,
    /// When it freezes, and for how long.
    freeze: Option<(f64, f64)>,
    /// Share of its time by which it stumbles.
    jitter: f64,
}

impl Child {
    fn new(rate: f64) -> Self {
        Self { rate, start: 0.0, freeze: None, jitter: 0.0 }
    }
    fn start(self, start: f64) -> Self {
        Self { start, ..self }
    }
    fn jitter(self, jitter: f64) -> Self {
        Self { jitter, ..self }
    }
}

struct Network {
    children: Vec<Child>,
    uplink: f64,
    latency: f64,
    blocks: u64,
    window: usize,
    budget: usize,
    hold: Duration,
}

#[derive(Debug)]
struct Outcome {
    copies: f64,
    finished: Vec<f64>,
    holds: u64,
}

enum Event {
    Start(usize),
    Ask(usize, u64),
    AtSource(Request),
    Reply(Request),
    Delivered(usize),
    Sweep,
}

#[derive(Clone, Debug, PartialEq)]
struct Request {
    child: usize,
    block: u64,
    id: ByteString,
}

struct Scheduled(f64, u64, Event);
impl PartialEq for Scheduled {
    fn eq(&self, o: &Self) -> bool {
        self.1 == o.1
    }
}
impl Eq for Scheduled {}
impl PartialOrd for Scheduled {
    fn partial_cmp(&self, o: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(o))
    }
}
impl Ord for Scheduled {
    fn cmp(&self, o: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&o.0).then(self.1.cmp(&o.1))
    }
}

impl Network {
    fn run(&self) -> Outcome {
        let began = Instant::now();
        let counters = Arc::<Counters>::default();
        let memory = Budget::new(self.budget);
        let mut cache = Cache::new(memory.clone(), counters.clone(), self.hold);
        let body = Bytes::from(vec![0; BLOCK]);
        let mut events = BinaryHeap::new();
        let mut seq = 0;
        let mut at = |events: &mut BinaryHeap<Reverse<Scheduled>>, time: f64, event| {
            seq += 1;
            events.push(Reverse(Scheduled(time, seq, event)));
        };
        let n = self.children.len();
        let (mut next, mut done) = (vec![0_u64; n], vec![0_u64; n]);
        let mut link_free = vec![0.0_f64; n];
        let mut finished = vec![f64::INFINITY; n];
        let (mut up_free, mut copies, mut ids) = (0.0_f64, 0_u64, 0_u64);
        let mut random = 12345_u64;
        for (child, c) in self.children.iter().enumerate() {
            at(&mut events, c.start, Event::Start(child));
        }
        let mut sweep = f64::INFINITY;
        while let Some(Reverse(Scheduled(now, _, event))) = events.pop() {
            let instant = began + Duration::from_secs_f64(now);
            let (mut answers, mut sends): (Vec<Request>, Vec<Request>) = (vec![], vec![]);
            let mut releases: Vec<Release<Request>> = vec![];
            match event {
                Event::Start(child) => {
                    while next[child] < self.blocks.min(self.window as u64) {
                        at(&mut events, now + self.latency, Event::Ask(child, next[child]));
                        next[child] += 1;
                    }
                }
                Event::Ask(child, block) => {
                    ids += 1;
                    let request = Request { child, block, id: ids.to_string().into() };
                    let asked = Asked {
                        target: "server".into(),
                        block: BlockAsk { token: Token([1; 16]), file: 0, block },
                        fresh: false,
                        asker: asker(child),
                        id: request.id.clone(),
                        hop: Some(hop()),
                        cost: 500,
                    };
                    let (verdict, released) = cache.ask(&asked, request, instant);
                    releases = released;
                    let due =
                        now + if matches!(verdict, Verdict::Kept) { self.hold.as_secs_f64() } else { 10.0 };
                    if due < sweep {
                        sweep = due;
                        at(&mut events, due, Event::Sweep);
                    }
                    match verdict {
                        Verdict::Forward(request) => sends.push(request),
                        Verdict::Answer(request, _) => answers.push(request),
                        Verdict::Kept => {}
                    }
                }
                Event::AtSource(request) => {
                    copies += 1;
                    up_free = up_free.max(now) + BLOCK as f64 / self.uplink;
                    at(&mut events, up_free + self.latency, Event::Reply(request));
                }
                Event::Reply(request) => {
                    let answered = Answered {
                        destination: asker(request.child).origin,
                        id: request.id.clone(),
                        from: "server".into(),
                    };
                    let reply = Arc::new(Reply { headers: Headers::new(), body: body.clone() });
                    if let Some(Learnt { waiters, released, .. }) =
                        cache.learn(&answered, "server", reply, instant)
                    {
                        answers.extend(waiters);
                        releases = released;
                    }
                    answers.push(request);
                }
                Event::Delivered(child) => {
                    done[child] += 1;
                    if next[child] < self.blocks {
                        at(&mut events, now + self.latency, Event::Ask(child, next[child]));
                        next[child] += 1;
                    }
                    if done[child] == self.blocks {
                        finished[child] = now;
                    }
                }
                Event::Sweep if now < sweep => {}
                Event::Sweep => {
                    let (released, due) = cache.sweep(instant);
                    releases = released;
                    sweep = due.map_or(f64::INFINITY, |due| (due - began).as_secs_f64() + 1e-6);
                    if due.is_some() {
                        at(&mut events, sweep, Event::Sweep);
                    }
                }
            }
            for Release { request, block } in releases {
                if let Some(block) = block {
                    cache.departed(&block, hop());
                }
                sends.push(request);
            }
            for request in sends {
                at(&mut events, now + self.latency, Event::AtSource(request));
            }
            for Request { child, .. } in answers {
                let c = &self.children[child];
                random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                let noise = (random >> 33) as f64 / (1_u64 << 31) as f64;
                let mut took = BLOCK as f64 / c.rate;
                if c.jitter > 0.0 && noise < 0.05 {
                    took += c.jitter;
                }
                let mut start = link_free[child].max(now);
                if let Some((from, long)) = c.freeze
                    && start >= from
                    && start < from + long
                {
                    start = from + long;
                }
                link_free[child] = start + took;
                at(&mut events, link_free[child] + self.latency, Event::Delivered(child));
            }
            assert!(memory.used() <= self.budget);
        }
        Outcome { copies: copies as f64 / self.blocks as f64, finished, holds: counters.block_holds.get() }
    }
}

fn asker(child: usize) -> Asker {
    let name: ByteString = format!("relay.site-{child}").into();
    Asker { origin: name.clone(), peer: name, link: child as u64 + 10 }
}

fn hop() -> Hop {
    Hop { peer: "server".into(), link: 1 }
}

fn network(children: Vec<Child>) -> Network {
    Network {
        children,
        uplink: 1000.0 * MIB,
        latency: 0.0002,
        blocks: 800,
        window: 16,
        budget: 16 << 20,
        hold: Duration::from_secs(2),
    }
}

/// Twenty children, a window of 4 MiB each, a file of 200 MiB, and 16 MiB in the relay.
fn twenty(child: impl Fn(usize) -> Child) -> Outcome {
    network((0..20).map(child).collect()).run()
}

fn assert_shared(outcome: &Outcome, what: &str) {
    assert!(outcome.copies <= 1.1, "{what}: {} copies", outcome.copies);
}

#[test]
fn children_that_drift_apart_cost_one_copy() {
    let steady = 25.0 * MIB;
    assert_shared(&twenty(|_| Child::new(steady)), "all alike");
    assert_shared(&twenty(|i| Child::new(steady * (1.0 + 0.02 * i as f64))), "each 2 % faster than the last");
    assert_shared(&twenty(|i| Child::new(5.0 * MIB * (i + 1) as f64)), "the fastest 20 times as fast");
    assert_shared(&twenty(|_| Child::new(steady).jitter(0.1)), "each stumbles for 100 ms now and then");
}

#[test]
fn children_that_begin_one_after_the_other_cost_one_copy() {
    assert_shared(&twenty(|i| Child::new(300.0 * MIB).start(i as f64 * 0.02)), "20 ms apart");
    assert_shared(&twenty(|i| Child::new(25.0 * MIB).start(i as f64 * 0.05)), "50 ms apart");
    let mixed = |i: usize| Child::new(100.0 * MIB).start((i * 7 % 20) as f64 * 0.05).jitter(0.05);
    assert_shared(&twenty(mixed), "within a second, and stumbling");
}

#[test]
fn a_child_that_is_far_slower_costs_a_copy_of_its_own_and_little_time_of_others() {
    for (what, slow) in [
        ("a 25th of the speed", Child::new(MIB)),
        ("a hundredth", Child::new(0.25 * MIB)),
        ("frozen for a while", Child { freeze: Some((1.0, 30.0)), ..Child::new(25.0 * MIB) }),
    ] {
        let outcome = twenty(|i| if i == 3 { slow.clone() } else { Child::new(25.0 * MIB) });
        assert!(outcome.copies <= 2.1, "{what}: {} copies", outcome.copies);
        // Alone, each would take 8 s.
        let last = (0..20).filter(|i| *i != 3).map(|i| outcome.finished[i]).fold(0.0, f64::max);
        assert!(last < 12.0, "{what}: the others took {last} s");
    }
}

#[test]
fn the_slow_ones_share_a_copy_too() {
    let outcome = twenty(|i| Child::new(if i < 4 { 50.0 } else { 1.0 } * MIB));
    assert!(outcome.copies <= 2.1, "{} copies", outcome.copies);
    assert!(outcome.finished[0] < 8.0, "{} s", outcome.finished[0]);
}

#[test]
fn who_pulls_alone_never_waits() {
    let outcome = network(vec![Child::new(300.0 * MIB)]).run();
    assert_eq!((outcome.copies, outcome.holds), (1.0, 0));
}

#[test]
fn without_holding_children_that_drift_apart_cost_a_copy_each() {
    let children = (0..20).map(|i| Child::new(5.0 * MIB * (i + 1) as f64)).collect();
    let outcome = Network { hold: Duration::ZERO, ..network(children) }.run();
    assert!(outcome.copies > 5.0, "{} copies", outcome.copies);
}

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use bytestring::ByteString;
use tokio::time::Instant;

use super::{
    cache::{Answered, Asked, Cache, Learnt, Release, Verdict},
    pull::{Asker, Hop, LONGEST_WAIT, QUIET, Reply},
};
use crate::{
    stats::{Budget, Counters},
    transfer::{BlockAsk, Token},
    wire::Headers,
};

/// With what a block takes besides its bytes.
const BLOCK: usize = 63 * 1024;

const HOLD: Duration = Duration::from_secs(2);

/// A cache whose requests are numbers, and the time.
struct Bench {
    cache: Cache<u32>,
    memory: Arc<Budget>,
    counters: Arc<Counters>,
    now: Instant,
    requests: u32,
}

impl Bench {
    /// With room for so many blocks.
    fn new(blocks: usize) -> Self {
        let (memory, counters) = (Budget::new(blocks * 64 * 1024 * 8 / 7), Arc::<Counters>::default());
        let cache = Cache::new(memory.clone(), counters.clone(), HOLD);
        Self { cache, memory, counters, now: Instant::now(), requests: 0 }
    }

    fn pass(&mut self, time: Duration) {
        self.now += time;
    }

    /// A request of a child, with its number and the numbers of those that go on because of it.
    fn ask_with(&mut self, change: impl FnOnce(&mut Asked), child: u64, block: u64) -> (Seen, Vec<u32>) {
        self.requests += 1;
        let mut asked = Asked {
            target: "server".into(),
            block: BlockAsk { token: Token([1; 16]), file: 0, block },
            fresh: false,
            asker: asker(child),
            id: id(self.requests),
            hop: Some(up()),
            cost: 500,
        };
        change(&mut asked);
        let (verdict, released) = self.cache.ask(&asked, self.requests, self.now);
        let seen = match verdict {
            Verdict::Forward(request) => Seen::Forwarded(request),
            Verdict::Answer(_, reply) => Seen::Answered(reply.body[0]),
            Verdict::Kept => Seen::Kept(self.requests),
        };
        (seen, self.depart(released))
    }

    fn ask(&mut self, child: u64, block: u64) -> Seen {
        self.ask_with(|_| {}, child, block).0
    }

    /// What was released goes up.
    fn depart(&mut self, released: Vec<Release<u32>>) -> Vec<u32> {
        let departed = released.into_iter().map(|Release { request, block }| {
            if let Some(block) = block {
                self.cache.departed(&block, up());
            }
            request
        });
        departed.collect()
    }

    /// The reply to a request comes down, full of `mark`.
    fn reply_with(
        &mut self,
        change: impl FnOnce(&mut Answered, &mut ByteString),
        child: u64,
        request: u32,
        mark: u8,
    ) -> Option<(Vec<u32>, Vec<u32>)> {
        let (mut answered, mut origin) = (answered(child, request), ByteString::from("server"));
        change(&mut answered, &mut origin);
        let reply = Arc::new(Reply { headers: Headers::new(), body: Bytes::from(vec![mark; BLOCK]) });
        let Learnt { waiters, released, .. } = self.cache.learn(&answered, &origin, reply, self.now)?;
        Some((waiters, self.depart(released)))
    }

    /// The requests that a reply answers besides its own.
    fn reply(&mut self, child: u64, request: u32, mark: u8) -> Vec<u32> {
        self.reply_with(|_, _| {}, child, request, mark).expect("it is known").0
    }

    /// A child gets a block, wherever from.
    fn fetch(&mut self, child: u64, block: u64) {
        match self.ask(child, block) {
            Seen::Forwarded(request) => drop(self.reply(child, request, block as u8)),
            Seen::Answered(mark) => assert_eq!(mark, block as u8),
            Seen::Kept(_) => panic!("block {block} for {child} waits"),
        }
    }

    fn sweep(&mut self) -> (Vec<u32>, Option<Instant>) {
        let (released, due) = self.cache.sweep(self.now);
        (self.depart(released), due)
    }

    /// Blocks of the transfer that are kept.
    fn kept(&self) -> Vec<u64> {
        self.cache.kept(&("server".into(), Token([1; 16]))).into_iter().map(|place| place.block).collect()
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    Forwarded(u32),
    Answered(u8),
    Kept(u32),
}

fn asker(child: u64) -> Asker {
    let name: ByteString = format!("relay.site-{child}").into();
    Asker { origin: name.clone(), peer: name, link: 10 + child }
}

fn up() -> Hop {
    Hop { peer: "server".into(), link: 1 }
}

fn id(request: u32) -> ByteString {
    format!("id-{request}").into()
}

fn answered(child: u64, request: u32) -> Answered {
    Answered { destination: asker(child).origin, id: id(request), from: "server".into() }
}

#[test]
fn the_first_asks_above_the_others_wait_and_later_ones_are_answered_here() {
    let mut bench = Bench::new(10);
    assert_eq!(bench.ask(1, 0), Seen::Forwarded(1));
    assert_eq!(bench.ask(2, 0), Seen::Kept(2));
    assert_eq!(bench.ask(3, 0), Seen::Kept(3));
    assert_eq!(bench.reply(1, 1, 7), [2, 3]);
    assert_eq!(bench.ask(4, 0), Seen::Answered(7));
    // Another transfer, another owner, another block: nothing is known of these.
    let other: [fn(&mut Asked); 3] = [
        |asked| asked.block.token = Token([2; 16]),
        |asked| asked.target = "other".into(),
        |asked| asked.block.file = 1,
    ];
    for (at, other) in other.into_iter().enumerate() {
        assert_eq!(bench.ask_with(other, 4, 0).0, Seen::Forwarded(5 + at as u32));
    }
    let counters = &bench.counters;
    let counted = [&counters.block_hits, &counters.block_misses, &counters.block_coalesced];
    assert_eq!(counted.map(|counter| counter.get()), [1, 4, 2]);
    assert_eq!(counters.block_bytes.get(), 3 * BLOCK as u64);
}

#[test]
fn a_single_transfer_keeps_its_beginning_once_and_then_nothing() {
    let mut bench = Bench::new(10);
    (0..100).for_each(|block| bench.fetch(1, block));
    assert_eq!(bench.kept(), (0..10).collect::<Vec<_>>());
    // Another one begins: the beginning of the first has to go.
    for block in 0..100 {
        bench.pass(Duration::from_millis(1));
        let (seen, _) = bench.ask_with(|asked| asked.block.token = Token([2; 16]), 1, block);
        let Seen::Forwarded(request) = seen else { panic!("{seen:?}") };
        bench.reply(1, request, 1);
    }
    assert_eq!(bench.kept(), [0_u64; 0]);
}

#[test]
fn a_reply_counts_only_if_it_is_the_one_that_was_asked_for() {
    let mut bench = Bench::new(10);
    bench.ask(1, 0);
    bench.ask(2, 0);
    let wrong: [fn(&mut Answered, &mut ByteString); 4] = [
        |answered, _| answered.from = "relay.site-2".into(),
        |answered, _| answered.id = id(99),
        |answered, _| answered.destination = asker(2).origin,
        |_, origin| *origin = "relay.site-2".into(),
    ];
    for wrong in wrong {
        assert_eq!(bench.reply_with(wrong, 1, 1, 66), None);
    }
    assert_eq!(bench.reply(1, 1, 7), [2]);
    assert_eq!(bench.reply_with(|_, _| {}, 1, 1, 66), None, "a second reply");
    assert_eq!(bench.ask(3, 0), Seen::Answered(7));
}

#[test]
fn what_came_damaged_is_forgotten_and_fetched_again() {
    let mut bench = Bench::new(10);
    bench.fetch(1, 0);
    let fresh = |asked: &mut Asked| asked.fresh = true;
    assert_eq!(bench.ask_with(fresh, 2, 0).0, Seen::Forwarded(2));
    assert_eq!(bench.ask(3, 0), Seen::Kept(3));
    // It must not wait for what others asked for: that may be as bad.
    assert_eq!(bench.ask_with(fresh, 1, 0).0, Seen::Forwarded(4));
    assert_eq!(bench.reply(2, 2, 9), [3]);
    assert_eq!(bench.ask(4, 0), Seen::Answered(9));
}

#[test]
fn after_a_refusal_the_next_request_goes_on_its_way() {
    let mut bench = Bench::new(10);
    (1..=3).for_each(|child| {
        bench.ask(child, 0);
    });
    assert!(
        bench
            .cache
            .refused(&Answered { from: "relay.site-2".into(), ..answered(1, 1) }, bench.now)
            .is_empty()
    );
    let released = bench.cache.refused(&answered(1, 1), bench.now);
    assert_eq!(bench.depart(released), [2]);
    assert_eq!(bench.reply_with(|_, _| {}, 1, 1, 66), None, "the first has had its answer");
    let released = bench.cache.refused(&answered(2, 2), bench.now);
    assert_eq!(bench.depart(released), [3]);
    assert_eq!(bench.reply(3, 3, 7), [0_u32; 0]);
}

#[test]
fn a_request_that_cannot_go_on_makes_room_for_the_next() {
    let mut bench = Bench::new(10);
    (1..=3).for_each(|child| {
        bench.ask(child, 0);
    });
    let mut released = bench.cache.link_down(1, bench.now);
    for request in [2, 3] {
        let [Release { request: first, block: Some(block) }] = &released[..] else { panic!("{released:?}") };
        assert_eq!(*first, request);
        released = bench.cache.failed(block, bench.now);
    }
    assert!(released.is_empty());
    assert_eq!(bench.ask(1, 0), Seen::Forwarded(4));
}

#[test]
fn when_the_first_asker_is_gone_its_reply_still_serves_the_others() {
    let mut bench = Bench::new(10);
    (1..=3).for_each(|child| {
        bench.ask(child, 0);
    });
    assert!(bench.cache.link_down(asker(1).link, bench.now).is_empty());
    assert!(bench.cache.link_down(asker(2).link, bench.now).is_empty());
    assert_eq!(bench.reply(1, 1, 7), [3], "2 is gone as well");
}

#[test]
fn a_reply_that_does_not_come_is_waited_for_while_others_come_but_not_for_ever() {
    let mut bench = Bench::new(10);
    (1..=3).for_each(|child| {
        bench.ask(child, 0);
    });
    let moment = Duration::from_millis(1);
    bench.pass(QUIET - moment);
    assert_eq!(bench.sweep(), (vec![], Some(bench.now + moment)));
    bench.fetch(1, 1);
    bench.pass(QUIET - moment);
    assert_eq!(bench.sweep().0, [0_u32; 0]);
    bench.pass(moment);
    assert_eq!(bench.sweep().0, [2]);
    // Others come all the time.
    let began = bench.now;
    for block in 2.. {
        bench.fetch(1, block);
        bench.pass(Duration::from_secs(5));
        if bench.sweep().0 == [3] {
            break;
        }
        assert!(bench.now < began + LONGEST_WAIT, "{:?}", bench.now - began);
    }
}

#[test]
fn who_asks_again_waits_once_and_under_its_new_id() {
    let mut bench = Bench::new(10);
    bench.ask(1, 0);
    bench.ask(2, 0);
    assert_eq!(bench.ask(2, 0), Seen::Kept(3));
    assert_eq!(bench.ask(1, 0), Seen::Kept(4), "the first one's reply may still come");
    assert_eq!(bench.reply(1, 1, 7), [3, 4]);
}

#[test]
fn a_reply_to_an_id_that_is_used_twice_is_nobody_elses() {
    let mut bench = Bench::new(10);
    bench.ask(1, 0);
    let (seen, _) = bench.ask_with(|asked| asked.id = id(1), 1, 1);
    assert_eq!(seen, Seen::Forwarded(2));
    bench.ask(2, 0);
    bench.ask(3, 0);
    // It may be either block, so the next one goes, and whoever waits does so for that one's reply.
    assert_eq!(bench.reply_with(|_, _| {}, 1, 1, 7), Some((vec![], vec![3])));
    assert!(bench.kept().is_empty());
    assert_eq!(bench.reply(2, 3, 8), [4]);
}

/// Who waits has an id that is on its way by now, for something else.
#[test]
fn a_request_with_a_second_hand_id_goes_by_itself_and_the_others_wait_on() {
    let mut bench = Bench::new(10);
    bench.ask(1, 0);
    let (seen, _) = bench.ask_with(|asked| asked.id = id(77), 2, 0);
    assert_eq!(seen, Seen::Kept(2));
    (3..=4).for_each(|child| assert_eq!(bench.ask(child, 0), Seen::Kept(child as u32)));
    let (seen, _) = bench.ask_with(|asked| asked.id = id(77), 2, 9);
    assert_eq!(seen, Seen::Forwarded(5));
    let released = bench.cache.refused(&answered(1, 1), bench.now);
    assert_eq!(bench.depart(released), [2, 3]);
    assert_eq!(bench.reply(3, 3, 8), [4]);
}

#[test]
fn requests_that_wait_are_few_and_small_and_take_the_place_of_blocks() {
    let mut bench = Bench::new(10);
    (0..10).for_each(|block| bench.fetch(0, block));
    assert_eq!(bench.kept().len(), 10);
    let Seen::Forwarded(first) = bench.ask(0, 10) else { panic!("it is alone") };
    assert!(matches!(bench.ask_with(|asked| asked.cost = 100_000, 1, 10).0, Seen::Forwarded(_)));
    let waiting = (1..10_000).filter(|child| matches!(bench.ask(*child, 10), Seen::Kept(_))).count();
    assert_eq!(waiting, 256);
    assert_eq!(bench.memory.used(), waiting * (500 + 1024) + bench.kept().len() * (BLOCK + 1024));
    assert!((1..10).contains(&bench.kept().len()), "{:?}", bench.kept());
    assert_eq!(bench.reply(0, first, 10).len(), waiting);
}

#[test]
fn the_budget_holds_whatever_is_asked_for() {
    let mut bench = Bench::new(4);
    let mut random = 1_u64;
    let mut sent = Vec::new();
    for round in 0..20_000 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (child, block) = (random >> 33 & 7, random >> 40 & 31);
        let token = |asked: &mut Asked| asked.block.token = Token([(random >> 50 & 3) as u8; 16]);
        let (seen, released) = bench.ask_with(token, child, block);
        if let Seen::Forwarded(request) = seen {
            sent.push((child, request));
        }
        drop(released);
        if random >> 60 & 1 == 1 && !sent.is_empty() {
            let (child, request) = sent.swap_remove((random >> 20) as usize % sent.len());
            bench.reply_with(|_, _| {}, child, request, 1);
        }
        bench.pass(Duration::from_millis(random >> 56 & 63));
        if round % 10 == 0 {
            bench.sweep();
        }
        assert!(bench.memory.used() <= bench.memory.limit());
    }
    assert!(bench.counters.block_hits.get() > 0);
    bench.pass(LONGEST_WAIT * 2);
    for _ in 0..20 {
        bench.sweep();
        bench.pass(LONGEST_WAIT * 2);
    }
    assert_eq!((bench.sweep(), bench.memory.used()), ((vec![], None), 0));
}

/// Two children are known, and those that may still come are not waited for any more.
fn pair(blocks: usize) -> Bench {
    let mut bench = Bench::new(blocks);
    bench.fetch(1, 0);
    bench.fetch(2, 0);
    bench.pass(Duration::from_millis(1500));
    bench.fetch(2, 0);
    bench
}

#[test]
fn blocks_that_another_child_needs_stay_and_others_make_room() {
    let mut bench = pair(10);
    (1..5).for_each(|block| bench.fetch(1, block));
    bench.pass(Duration::from_millis(1));
    bench.fetch(2, 1);
    (5..11).for_each(|block| bench.fetch(1, block));
    // 0 and 1 are needed by nobody; the oldest went.
    assert_eq!(bench.kept(), (1..11).collect::<Vec<_>>());
}

#[test]
fn who_is_ahead_waits_until_others_have_caught_up() {
    let mut bench = pair(10);
    (1..11).for_each(|block| bench.fetch(1, block));
    assert_eq!(bench.ask(1, 11), Seen::Kept(bench.requests));
    let held = bench.requests;
    assert_eq!(bench.ask(1, 12), Seen::Kept(bench.requests));
    let (seen, released) = bench.ask_with(|_| {}, 2, 1);
    assert_eq!((seen, released), (Seen::Answered(1), vec![held]));
    assert_eq!(bench.counters.block_holds.get(), 2);
}

#[test]
fn who_is_slow_is_waited_for_once_and_then_left_behind() {
    let mut bench = pair(10);
    (1..11).for_each(|block| bench.fetch(1, block));
    bench.ask(1, 11);
    let held = bench.requests;
    bench.pass(HOLD - Duration::from_millis(1));
    assert_eq!(bench.sweep().0, [0_u32; 0]);
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.sweep().0, [held]);
    bench.reply(1, held, 11);
    (12..50).for_each(|block| bench.fetch(1, block));
    // It comes at its own pace, and what it misses is its own.
    assert_eq!(bench.ask(2, 2), Seen::Answered(2));
}

#[test]
fn nobody_waits_longer_because_somebody_behind_it_waits_as_well() {
    let mut bench = Bench::new(10);
    (0..14).for_each(|block| bench.fetch(1, block));
    bench.fetch(2, 0);
    bench.fetch(3, 0);
    bench.pass(Duration::from_millis(1500));
    bench.fetch(2, 0);
    (1..11).for_each(|block| bench.fetch(3, block));
    assert_eq!(bench.ask(1, 14), Seen::Kept(bench.requests));
    let first = bench.requests;
    bench.pass(Duration::from_millis(1500));
    bench.fetch(2, 0);
    assert_eq!(bench.ask(3, 11), Seen::Kept(bench.requests));
    let second = bench.requests;
    bench.pass(HOLD - Duration::from_millis(1500));
    let (released, due) = bench.sweep();
    assert!(released.contains(&first), "{released:?} of {first} and {second}");
    assert!(due.unwrap() > bench.now, "it is due all the time");
}

#[test]
fn a_child_that_is_left_behind_keeps_nobody_waiting_until_it_has_caught_up() {
    let mut bench = pair(10);
    (1..11).for_each(|block| bench.fetch(1, block));
    bench.ask(1, 11);
    bench.pass(HOLD);
    let [held] = bench.sweep().0[..] else { panic!("one is held") };
    bench.reply(1, held, 11);
    for block in 12..30 {
        bench.fetch(1, block);
        bench.fetch(2, 1);
    }
    // Now it has.
    (26..30).for_each(|block| bench.fetch(2, block));
    (30..39).for_each(|block| bench.fetch(1, block));
    let last = (39..50).find(|block| matches!(bench.ask(1, *block), Seen::Kept(_)));
    assert!(last.is_some(), "it is waited for again");
}

#[test]
fn a_child_that_stops_asking_keeps_nobody_waiting() {
    let mut bench = pair(10);
    (1..11).for_each(|block| bench.fetch(1, block));
    bench.pass(HOLD + Duration::from_millis(1));
    bench.fetch(3, 10);
    bench.fetch(1, 11);
}

#[test]
fn the_beginning_waits_for_children_that_are_still_to_come() {
    let mut bench = Bench::new(10);
    bench.fetch(1, 0);
    bench.fetch(2, 0);
    for block in 1..10 {
        bench.fetch(1, block);
        bench.fetch(2, block);
    }
    assert!(matches!(bench.ask(1, 10), Seen::Kept(_)));
    assert_eq!(bench.ask(3, 0), Seen::Answered(0));
    bench.pass(Duration::from_secs(1));
    (1..10).for_each(|block| bench.fetch(3, block));
    assert_eq!(bench.counters.block_misses.get(), 11);
}

#[test]
fn nobody_waits_if_nobody_is_to_wait() {
    let mut bench = Bench::new(10);
    bench.cache = Cache::new(bench.memory.clone(), bench.counters.clone(), Duration::ZERO);
    bench.fetch(2, 0);
    (0..100).for_each(|block| bench.fetch(1, block));
    assert_eq!(bench.counters.block_holds.get(), 0);
}

#[test]
fn one_transfer_leaves_another_its_share() {
    let mut bench = pair(10);
    (1..11).for_each(|block| bench.fetch(1, block));
    let other = |asked: &mut Asked| asked.block.token = Token([2; 16]);
    for block in [0, 1, 2, 3, 4, 5, 6] {
        for child in [3, 4] {
            let (seen, _) = match child {
                // The second one is behind, so that every block is needed.
                4 => bench.ask_with(other, 4, 0),
                _ => bench.ask_with(other, 3, block),
            };
            if let Seen::Forwarded(request) = seen {
                bench.reply(child, request, block as u8);
            }
        }
    }
    // Those that are needed first.
    assert_eq!(bench.kept(), [1, 2, 3, 4, 5]);
}

#[test]
fn what_nobody_asks_for_is_forgotten() {
    let mut bench = Bench::new(10);
    bench.fetch(1, 0);
    let due = bench.sweep().1.unwrap();
    bench.now = due - Duration::from_millis(1);
    assert!(bench.sweep().1.is_some());
    assert!(bench.memory.used() > 0);
    bench.now = due;
    while let (_, Some(due)) = bench.sweep() {
        bench.now = due;
    }
    assert_eq!(bench.memory.used(), 0);
}

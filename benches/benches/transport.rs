//! Frames by each driver next to the bare library below it: small ones in batches, and large ones.
//!
//! Both ends live in this process, on a thread each. Criterion shows each side by itself; the table at the end comes from
//! turns that both sides took one after the other, so its ratios hold on a busy machine too.

use std::time::Duration;

use cellnet_benches::{
    bare,
    contest::{Contest, HEADING, Outcome},
    driver,
    way::{Ends, Load},
};
use cellnet_core::testkit::pki::Pki;
use criterion::{Criterion, SamplingMode, Throughput};

const SCHEMES: [&str; 5] = ["tcp", "stcp", "ws", "wss", "quic"];

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .configure_from_args();
    let said = |flag| std::env::args().any(|argument| argument == flag);
    let rounds = if said("--bench") && !said("--test") { 15 } else { 1 };
    let (ends, pki) = (Ends::new(), Pki::new());
    let mut outcomes = Vec::new();
    for load in [Load::small(), Load::large()] {
        for scheme in SCHEMES {
            outcomes.extend(contest(&mut criterion, &ends, &pki, &load, scheme, rounds));
        }
    }
    criterion.final_summary();
    if !outcomes.is_empty() {
        println!("{HEADING}");
        outcomes.iter().for_each(|outcome| println!("{outcome}"));
    }
}

/// Each side by itself, then both in turn; nothing if they are filtered out.
fn contest(
    criterion: &mut Criterion,
    ends: &Ends,
    pki: &Pki,
    load: &Load,
    scheme: &'static str,
    rounds: usize,
) -> Option<Outcome> {
    let (mut driver, mut bare) = (None, None);
    let mut group = criterion.benchmark_group(format!("transport_{}/{scheme}", load.name));
    group.sampling_mode(SamplingMode::Flat).throughput(match load.batch {
        1 => Throughput::BytesDecimal((load.step * load.body.len()) as u64),
        _ => Throughput::Elements(load.step as u64),
    });
    group.bench_function("driver", |b| {
        let way = driver.get_or_insert_with(|| driver::open(ends, scheme, pki, load));
        b.iter_custom(|steps| ends.carry(way, load, steps as usize * load.step));
    });
    group.bench_function("bare", |b| {
        let way = bare.get_or_insert_with(|| bare::open(ends, scheme, pki));
        b.iter_custom(|steps| ends.carry(way, load, steps as usize * load.step));
    });
    group.finish();
    Some(Contest { ends, load: load.clone(), driver: driver?, bare: bare? }.run(scheme, rounds))
}

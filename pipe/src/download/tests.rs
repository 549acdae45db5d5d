//! Owners and pullers that talk to one another, and to hostile ones, over wires in memory.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use cellnet_core::{
    cell::{HandlerError, Request},
    fobs::Tensor,
    testkit::sim::{Sim, fqcn},
};
use tokio::time::Instant;

use super::{
    testdata::{golden, payload},
    wire::{Ask, CHANNEL, TOPIC, Told, file_state, items_state},
    *,
};

/// `server` with `site-1` and `site-2` below.
struct Net {
    sim: Sim,
    server: Cell,
    one: Cell,
    two: Cell,
}

async fn net() -> Net {
    let sim = Sim::new();
    let server = sim.cell("server", &[]).await;
    let (one, two) = (sim.cell("site-1", &["server"]).await, sim.cell("site-2", &["server"]).await);
    Net { sim, server, one, two }
}

/// Arrays that are large enough for references, one of them in two places, and a small one.
fn model() -> Object {
    let large = |value: f64, length: usize| Array::from(vec![value; length]);
    let twice = large(2.0, 4000);
    Object::from_iter([
        ("a", Object::from(large(1.0, 3000))),
        ("b", twice.clone().into()),
        ("c", twice.into()),
        ("huge", large(3.0, 600_000).into()),
        ("small", large(4.0, 2).into()),
        ("name", "model".into()),
    ])
}

#[tokio::test(start_paused = true)]
async fn what_is_pulled_is_what_was_offered() {
    let net = net().await;
    let owner = Downloads::attach(&net.one);
    let sent = owner.encode(model(), Offer::to(fqcn("site-2"))).unwrap();
    assert!(sent.payload.len() < 4096, "{}", sent.payload.len());
    let puller = Downloads::attach(&net.two);
    assert_eq!(puller.decode("models", &sent.message()).await.unwrap(), model());
    let transaction = sent.transaction.unwrap();
    assert_eq!(transaction.done().await, Outcome::Delivered);
    let status = transaction.status();
    assert_eq!((status.refs, status.receivers[0].given), (1, Given::All));
    assert!(status.receivers[0].bytes > 600_000 * 8);
    assert_eq!(owner.open_transactions(), 0);
}

#[tokio::test(start_paused = true)]
async fn arrays_of_numpy_and_of_torch_are_one_transaction() {
    let net = net().await;
    let tensor = Tensor::with_shape(vec![0.5_f32; 20_000], &[100, 200]).unwrap();
    let both = Object::from_iter([("numpy", model()), ("torch", tensor.into())]);
    let sent = Downloads::attach(&net.one).encode(both.clone(), Offer::to(fqcn("site-2"))).unwrap();
    let puller = Downloads::attach(&net.two);
    assert_eq!(puller.decode("models", &sent.message()).await.unwrap(), both);
    let transaction = sent.transaction.unwrap();
    assert_eq!(transaction.done().await, Outcome::Delivered);
    assert_eq!(transaction.status().refs, 2);
}

#[tokio::test(start_paused = true)]
async fn pulls_beyond_those_at_once_wait_and_then_fail() {
    let net = net().await;
    let mut config = quick();
    config.pull.at_once = 1;
    let puller = Downloads::attach_with(&net.two, config);
    let _other = puller.service.pulling.take(&fqcn("site-1")).await;
    let began = Instant::now();
    let failed = puller.pull_arrays(ArrayKind::Numpy, &Source::new(fqcn("site-1"), "R1")).await;
    assert!(matches!(failed, Err(PullError::Busy(1))), "{failed:?}");
    assert_eq!(began.elapsed(), Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn a_cell_pulls_what_it_owns_itself() {
    let net = net().await;
    let downloads = Downloads::attach(&net.one);
    let sent = downloads.encode(model(), Offer::to(fqcn("site-1"))).unwrap();
    assert_eq!(downloads.decode("models", &sent.message()).await.unwrap(), model());
    assert_eq!(sent.transaction.unwrap().done().await, Outcome::Delivered);
}

#[tokio::test(start_paused = true)]
async fn small_arrays_stay_in_the_message() {
    let net = net().await;
    let small = Object::from_iter([("w", Array::from(vec![1.0; 10]))]);
    let sent = Downloads::attach(&net.one).encode(small.clone(), Offer::to(fqcn("site-2"))).unwrap();
    assert!(sent.transaction.is_none());
    let got = Downloads::attach(&net.two).decode("models", &sent.message()).await;
    assert_eq!(got.unwrap(), small);
}

#[tokio::test(start_paused = true)]
async fn a_message_that_is_sent_again_has_the_same_references() {
    let net = net().await;
    let owner = Downloads::attach(&net.one);
    let puller = Downloads::attach(&net.two);
    let sent = owner.encode(model(), Offer::to(fqcn("site-2"))).unwrap();
    let topic: crate::Topic = "train".parse().unwrap();
    let message = crate::PipeMessage::new_request(topic, sent.payload.clone());
    for _ in 0..2 {
        assert_eq!(message.to_wire().payload, sent.payload);
        assert_eq!(owner.open_transactions(), 1);
    }
    assert_eq!(puller.decode_payload(&message.data).await.unwrap(), model());
    assert_eq!(owner.open_transactions(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_transaction_waits_for_all_its_receivers() {
    let net = net().await;
    let owner = Downloads::attach(&net.server);
    let sent = owner.encode(model(), Offer::to_each([fqcn("site-1"), fqcn("site-2")])).unwrap();
    let transaction = sent.transaction.clone().unwrap();
    Downloads::attach(&net.one).decode("models", &sent.message()).await.unwrap();
    assert_eq!(transaction.received_by(&fqcn("site-1")).await, Given::All);
    assert_eq!(transaction.status().outcome, None);
    Downloads::attach(&net.two).decode("models", &sent.message()).await.unwrap();
    assert_eq!(transaction.done().await, Outcome::Delivered);
}

#[tokio::test(start_paused = true)]
async fn a_stranger_is_refused() {
    let net = net().await;
    let sent = Downloads::attach(&net.server).encode(model(), Offer::to(fqcn("site-1"))).unwrap();
    let stranger = Downloads::attach(&net.two).decode("models", &sent.message()).await;
    assert!(matches!(stranger, Err(PullError::Refused { .. })), "{stranger:?}");
    Downloads::attach(&net.one).decode("models", &sent.message()).await.unwrap();
    let again = Downloads::attach(&net.one).decode("models", &sent.message()).await;
    assert!(matches!(again, Err(PullError::Incomplete(ReferenceError::Missing(_)))), "{again:?}");
}

#[tokio::test(start_paused = true)]
async fn references_pass_through_and_lead_to_their_owner() {
    let net = net().await;
    let owner = Downloads::attach(&net.one);
    let sent = owner.encode(model(), Offer::to(fqcn("server"))).unwrap();
    let middle = Downloads::attach(&net.two);
    let message = sent.message().with_header(cn::PASS_THROUGH, true);
    let lazy = middle.decode("models", &message).await.unwrap();
    assert_eq!(lazy.downloads().len(), 1);
    let on = middle.encode(lazy, Offer::to(fqcn("server"))).unwrap();
    assert!(on.transaction.is_none());
    assert_eq!(Downloads::attach(&net.server).decode("models", &on.message()).await.unwrap(), model());
    let transaction = sent.transaction.unwrap();
    assert_eq!(transaction.done().await, Outcome::Delivered);
    assert_eq!(transaction.status().receivers.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_channel_can_pass_everything_through() {
    let net = net().await;
    let sent = Downloads::attach(&net.one).encode(model(), Offer::to(fqcn("server"))).unwrap();
    let mut config = DownloadConfig::default();
    config.pass_through_channels.push("models".into());
    let middle = Downloads::attach_with(&net.two, config);
    assert_eq!(middle.decode("models", &sent.message()).await.unwrap().downloads().len(), 1);
    let pulled = middle.decode("others", &sent.message()).await;
    assert!(matches!(pulled, Err(PullError::Refused { .. })), "{pulled:?}");
}

/// As captured from the reference, both before and after a process in the middle.
#[tokio::test(start_paused = true)]
async fn references_of_the_reference_are_followed() {
    let net = net().await;
    let owner = net.sim.cell("dl-1", &["server"]).await;
    let answers = golden()["plain_zip"].as_array().unwrap().iter().map(payload).collect::<Vec<_>>();
    scripted(&owner, move |at| answers.get(at).cloned().unwrap_or_else(|| Told::Eof.encode()));
    let downloads = Downloads::attach(&net.one);
    for form in ["payload", "passed_on"] {
        let message = Message::new(payload(&golden()["pass_through"][form]));
        let pulled = downloads.decode("echo", &message).await.unwrap();
        let x: Vec<i64> = pulled.get("x").unwrap().as_array().unwrap().to_vec().unwrap();
        assert_eq!(x.len(), 4);
        assert_eq!(pulled.get("y").unwrap().as_array().unwrap().shape(), [2, 2]);
        scripted(&owner, {
            let answers = golden()["plain_zip"].as_array().unwrap().iter().map(payload).collect::<Vec<_>>();
            move |at| answers.get(at).cloned().unwrap_or_else(|| Told::Eof.encode())
        });
    }
}

#[tokio::test(start_paused = true)]
async fn attaching_twice_is_attaching_once() {
    let net = net().await;
    let (first, second) = (Downloads::attach(&net.one), Downloads::attach(&net.one));
    first.encode(model(), Offer::to(fqcn("site-2"))).unwrap();
    assert_eq!(second.open_transactions(), 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_comes_and_the_life_time_ends() {
    let net = net().await;
    let began = Instant::now();
    let sent = Downloads::attach(&net.one).encode(model(), Offer::to(fqcn("site-2"))).unwrap();
    assert_eq!(sent.transaction.as_ref().unwrap().done().await, Outcome::TimedOut);
    assert_eq!(began.elapsed(), Duration::from_secs(300));
    let late = Downloads::attach(&net.two).decode("models", &sent.message()).await;
    assert!(matches!(late, Err(PullError::Unknown { .. })), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn a_released_reference_is_unknown() {
    let net = net().await;
    let sent = Downloads::attach(&net.one).encode(model(), Offer::to(fqcn("site-2"))).unwrap();
    let transaction = sent.transaction.as_ref().unwrap();
    transaction.release();
    assert_eq!(transaction.done().await, Outcome::Released);
    let late = Downloads::attach(&net.two).decode("models", &sent.message()).await;
    assert!(matches!(late, Err(PullError::Unknown { .. })), "{late:?}");
}

#[tokio::test(start_paused = true)]
async fn a_transaction_ends_with_its_cell() {
    let net = net().await;
    let downloads = Downloads::attach(&net.one);
    let sent = downloads.encode(model(), Offer::to(fqcn("site-2"))).unwrap();
    net.one.shutdown(Duration::from_secs(1)).await;
    assert_eq!(sent.transaction.unwrap().done().await, Outcome::Stopped);
    assert!(matches!(downloads.encode(model(), Offer::to(fqcn("server"))), Err(OfferError::ShuttingDown)));
}

#[tokio::test(start_paused = true)]
async fn a_service_does_not_keep_its_cell() {
    let net = net().await;
    let sent = Downloads::attach(&net.one).encode(model(), Offer::to(fqcn("site-2"))).unwrap();
    drop(net.one);
    assert_eq!(sent.transaction.unwrap().done().await, Outcome::Stopped);
}

#[tokio::test(start_paused = true)]
async fn a_frozen_owner_is_an_error_at_the_progress_deadline() {
    let net = net().await;
    let config = quick();
    let sent = Downloads::attach(&net.one).encode(model(), Offer::to(fqcn("site-2"))).unwrap();
    let puller = Downloads::attach_with(&net.two, config);
    net.sim.net.freeze("site-1");
    let began = Instant::now();
    let failed = puller.decode("models", &sent.message()).await;
    assert!(matches!(failed, Err(PullError::Stalled { .. })), "{failed:?}");
    assert_eq!(began.elapsed(), Duration::from_secs(20));
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_is_not_there_is_gone() {
    let net = net().await;
    let sent = Downloads::attach(&net.one).encode(model(), Offer::to(fqcn("site-2"))).unwrap();
    net.one.shutdown(Duration::from_secs(1)).await;
    let failed = Downloads::attach_with(&net.two, quick()).decode("models", &sent.message()).await;
    assert!(matches!(failed, Err(PullError::OwnerGone { .. })), "{failed:?}");
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_asked_for_again() {
    let net = net().await;
    let asked = std::sync::Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    net.one.handle(CHANNEL, TOPIC, move |_: Request| {
        let answer = match count.fetch_add(1, Relaxed) {
            0 | 1 => Message::failure(cellnet_core::message::ReturnCode::TIMEOUT, "busy"),
            2 => Message::new(Told::Ok { state: file_state(1), data: Object::Bin("x".into()) }.encode()),
            _ => Message::new(Told::Eof.encode()),
        };
        async move { Ok::<_, HandlerError>(answer) }
    });
    let began = Instant::now();
    let mut sink = Vec::new();
    let pulled = Downloads::attach(&net.two).pull_file(&fqcn("site-1"), "R1").into_writer(&mut sink).await;
    assert_eq!((pulled.unwrap(), &sink[..]), (1, &b"x"[..]));
    assert_eq!((asked.load(Relaxed), began.elapsed().as_secs()), (4, 6));
}

/// Answers that no honest owner gives, and what becomes of them.
#[tokio::test(start_paused = true)]
async fn hostile_owners_are_named() {
    let net = net().await;
    let npz = |name: &str| Object::Bin(ArrayKind::Numpy.pack(name, &Array::from(vec![1.0; 8])).unwrap());
    let ok = |state, data| Told::Ok { state, data }.encode();
    let state = || items_state(0, 1);
    let good = ok(state(), Object::List(vec![npz("T0")]));
    // Every length in it says more than there is.
    let Object::Bin(archive) = npz("T0") else { unreachable!() };
    let lying: bytes::Bytes = archive.iter().map(|byte| if *byte == 192 { 255 } else { *byte }).collect();
    assert_ne!(lying, archive);
    let cases: Vec<(&str, Vec<Payload>)> = vec![
        ("no object", vec![Payload::Bytes("x".into())]),
        ("no status", vec![Told::Eof.encode(), Payload::Fobs(fobs::to_bytes("ok").unwrap())]),
        ("no list", vec![ok(state(), Object::Bin("x".into()))]),
        ("a state of the wrong type", vec![ok(Object::from(7), Object::List(vec![npz("T0")]))]),
        ("no items", vec![ok(state(), Object::List(Vec::new()))]),
        ("no archive", vec![ok(state(), Object::List(vec![Object::Bin("PK".into())]))]),
        ("a lying archive", vec![ok(state(), Object::List(vec![Object::Bin(lying)]))]),
        ("the same again and again", vec![good.clone(), good.clone(), good]),
    ];
    let downloads = Downloads::attach_with(&net.two, quick());
    let source = Source::new(fqcn("site-1"), "R1");
    for (what, answers) in cases {
        let last = answers.last().cloned().unwrap();
        let first = if what == "no status" { 1 } else { 0 };
        scripted(&net.one, move |at| answers.get(at + first).cloned().unwrap_or_else(|| last.clone()));
        let failed = downloads.pull_arrays(ArrayKind::Numpy, &source).await;
        assert!(matches!(failed, Err(PullError::Corrupt { .. })), "{what}: {failed:?}");
    }
}

/// What was captured, with every byte changed and cut off everywhere, is an error or another answer.
#[test]
fn damaged_answers_are_no_panic() {
    let whole = payload(&golden()["arrays"]["answer"]).to_bytes();
    let read = |bytes: Vec<u8>| -> Option<usize> {
        let Told::Ok { data, .. } = Told::decode(&Payload::Fobs(bytes.into())).ok()? else { return None };
        let items = wire::items(data)?;
        items.iter().map(|item| ArrayKind::Numpy.unpack(item, 4).ok().map(|arrays| arrays.len())).sum()
    };
    assert_eq!(read(whole.to_vec()), Some(1));
    for at in 0..whole.len() {
        assert_eq!(read(whole[..at].to_vec()), None);
        for change in [0x01, 0x80, 0xff] {
            let mut damaged = whole.to_vec();
            damaged[at] ^= change;
            assert!(read(damaged).is_none_or(|arrays| arrays <= 4));
        }
    }
}

#[tokio::test(start_paused = true)]
async fn endless_answers_end_at_the_limits() {
    let net = net().await;
    let endless = |at: usize| {
        let item = ArrayKind::Numpy.pack(&format!("T{at}"), &Array::from(vec![1.0; 100])).unwrap();
        Told::Ok { state: items_state(at, 1), data: Object::List(vec![Object::Bin(item)]) }.encode()
    };
    scripted(&net.one, endless);
    let mut config = quick();
    (config.pull.max_items, config.pull.max_bytes) = (10, 5000);
    let source = Source::new(fqcn("site-1"), "R1");
    let downloads = Downloads::attach_with(&net.two, config.clone());
    let failed = downloads.pull_arrays(ArrayKind::Numpy, &source).await;
    assert!(matches!(failed, Err(PullError::TooLarge(5000))), "{failed:?}");
    config.pull.max_bytes = 1 << 20;
    // What came before and failed does not count any more.
    assert_eq!(downloads.service.pulled.bytes(), 0);
    scripted(&net.one, endless);
    let failed = Downloads::attach_with(&net.server, config).pull_arrays(ArrayKind::Numpy, &source).await;
    assert!(matches!(failed, Err(PullError::TooMany(10))), "{failed:?}");

    scripted(&net.one, |at| {
        Told::Ok { state: file_state(at as u64), data: Object::Bin("xy".into()) }.encode()
    });
    let mut sink = Vec::new();
    let pull = downloads.pull_file(&fqcn("site-1"), "R1").max_bytes(99);
    assert!(matches!(pull.into_writer(&mut sink).await, Err(PullError::TooLarge(99))));
    assert_eq!(sink.len(), 98);
}

#[tokio::test(start_paused = true)]
async fn all_pulls_of_a_cell_together_are_bounded() {
    let net = net().await;
    let mut config = quick();
    config.pull.max_all_bytes = 10 << 20;
    let puller = Downloads::attach_with(&net.two, config);
    let sent = Downloads::attach(&net.one).encode(model(), Offer::to(fqcn("site-2")).times(2)).unwrap();
    let most = &puller.config().pull;
    let others = Allowance::new(most, puller.service.pulled.clone());
    others.take_bytes(&fqcn("site-3"), 3 << 20).unwrap();
    let failed = puller.decode("models", &sent.message()).await;
    assert!(matches!(failed, Err(PullError::Full(_))), "{failed:?}");
    assert_eq!(puller.service.pulled.bytes(), 3 << 20);
    drop(others);
    assert_eq!(puller.decode("models", &sent.message()).await.unwrap(), model());
    assert_eq!(puller.service.pulled.bytes(), 0);
}

#[tokio::test(start_paused = true)]
async fn owners_that_do_not_answer_leave_turns_for_others() {
    let net = net().await;
    net.one.handle(CHANNEL, TOPIC, |_: Request| std::future::pending::<Result<Message, HandlerError>>());
    let mut config = quick();
    config.pull.at_once = 4;
    let puller = Downloads::attach_with(&net.two, config);
    let silent = Source::new(fqcn("site-1"), "R1");
    let stuck = (0..8).map(|_| puller.pull_arrays(ArrayKind::Numpy, &silent));
    let stuck = futures_util::future::join_all(stuck);
    let sent = Downloads::attach(&net.server).encode(model(), Offer::to(fqcn("site-2"))).unwrap();
    let message = sent.message();
    let pulled = tokio::select! {
        biased;
        _ = stuck => panic!("nobody answered these"),
        pulled = puller.decode("models", &message) => pulled,
    };
    assert_eq!(pulled.unwrap(), model());
}

/// The reference's state is trusted there; here it makes no answer.
#[tokio::test(start_paused = true)]
async fn hostile_pullers_are_told_that_it_failed() {
    let net = net().await;
    let owner = Downloads::attach(&net.one);
    let array = |at: usize| (format!("T{at}").into(), Array::from(vec![1.0; 4]));
    for state in [
        Object::from_iter([("start", -1)]),
        Object::from_iter([("start", "x")]),
        Object::from(vec![Object::from(1)]),
        items_state(7, 1),
    ] {
        let (source, transaction) =
            owner.offer(ArrayKind::Numpy, (0..3).map(array), Offer::to(fqcn("site-2"))).unwrap();
        let ask = Ask { ref_id: source.ref_id, state: Some(state) };
        let told =
            net.two.request(&fqcn("site-1"), CHANNEL, TOPIC, Message::new(ask.encode())).await.unwrap();
        assert_eq!(Told::decode(&told.payload), Ok(Told::Error));
        assert_eq!(transaction.done().await, Outcome::Failed);
    }
    let nonsense = net.two.request(&fqcn("site-1"), CHANNEL, TOPIC, Message::new("x")).await.unwrap();
    assert_eq!(nonsense.code(), Some(cellnet_core::message::ReturnCode::INVALID_REQUEST));
}

#[tokio::test(start_paused = true)]
async fn answers_beyond_the_memory_wait_their_turn() {
    let net = net().await;
    let config = DownloadConfig { answer_bytes: 1 << 20, ..DownloadConfig::default() };
    let owner = Downloads::attach_with(&net.server, config);
    let offer = Offer::to_each([fqcn("site-1"), fqcn("site-2")]);
    let sent = owner.encode(model(), offer).unwrap();
    let (one, two) = (Downloads::attach(&net.one), Downloads::attach(&net.two));
    let message = sent.message();
    let (one, two) = tokio::join!(one.decode("m", &message), two.decode("m", &message));
    assert_eq!((one.unwrap(), two.unwrap()), (model(), model()));
    assert_eq!(sent.transaction.unwrap().done().await, Outcome::Delivered);
}

/// Answers whatever is asked with the next of these.
fn scripted(cell: &Cell, answer: impl Fn(usize) -> Payload + Send + Sync + 'static) {
    let asked = Mutex::new(0..);
    cell.handle(CHANNEL, TOPIC, move |_: Request| {
        let at: Option<usize> = asked.lock().unwrap().next();
        let told = Message::new(answer(at.unwrap()));
        async move { Ok::<_, HandlerError>(told) }
    });
}

/// Deadlines that are shorter than those of links.
fn quick() -> DownloadConfig {
    let mut config = DownloadConfig::default();
    config.pull.progress = Duration::from_secs(20);
    config.pull.request_timeout = Duration::from_secs(20);
    config
}

use super::*;
use crate::wire::keys::cn;

fn outbox(config: &LinkConfig) -> Outbox {
    Outbox::with_lanes(config, 0, Arc::default(), Budget::new(64 << 20))
}

fn bulk(bytes: usize) -> Outgoing {
    let body = vec![0; bytes].into();
    Outgoing { headers: Headers::new(), body, class: Class::Bulk(1), cost: bytes }
}

fn control(mark: i64) -> Outgoing {
    Outgoing::new([("mark", mark)].into_iter().collect(), Bytes::new())
}

fn ack(stream: i64, offset: i64) -> Outgoing {
    let mut headers: Headers = [(cn::CHANNEL, sm::STREAM_CHANNEL)].into_iter().collect();
    headers.set(sm::ID, stream);
    headers.set(sm::DATA_TYPE, 3_i64);
    headers.set(sm::OFFSET, offset);
    Outgoing::new(headers, Bytes::new())
}

#[tokio::test(start_paused = true)]
async fn reply_is_never_behind_bulk() {
    let outbox = outbox(&LinkConfig::default());
    for _ in 0..3 {
        outbox.try_push(bulk(1 << 20)).unwrap();
    }
    outbox.try_push(control(1)).unwrap();
    let mut batch = Vec::new();
    outbox.take(0, &mut batch);
    assert_eq!(batch[0].class, Class::Control);
}

#[tokio::test(start_paused = true)]
async fn full_outbox_fails_fast_when_closing() {
    let config = LinkConfig { outbox_bytes: 1, ..LinkConfig::default() };
    let outbox = Arc::new(outbox(&config));
    outbox.try_push(bulk(10)).unwrap();
    assert!(matches!(outbox.try_push(bulk(10)), Err(Refused::Full(_))));
    let waiting = tokio::spawn({
        let outbox = outbox.clone();
        async move { outbox.push(bulk(10), Duration::from_secs(3600)).await }
    });
    tokio::task::yield_now().await;
    let start = Instant::now();
    outbox.close();
    assert_eq!(waiting.await.unwrap(), Err(PushError::Closed));
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn patience_counts_from_the_last_progress() {
    let config = LinkConfig { outbox_bytes: 1, ..LinkConfig::default() };
    let outbox = Arc::new(outbox(&config));
    outbox.try_push(bulk(10)).unwrap();
    let start = Instant::now();
    assert_eq!(outbox.push(bulk(10), Duration::from_secs(5)).await, Err(PushError::Full));
    assert_eq!(start.elapsed(), Duration::from_secs(5));
}

#[tokio::test(start_paused = true)]
async fn waiting_acks_of_a_stream_become_one() {
    let outbox = outbox(&LinkConfig::default());
    // Long enough that the ACKs differ in size.
    for offset in 0..300 {
        outbox.try_push(ack(1, offset)).unwrap();
        outbox.try_push(ack(2, offset)).unwrap();
    }
    let mut batch = Vec::new();
    outbox.take(0, &mut batch);
    assert_eq!(batch.len(), 2);
    assert!(batch.iter().all(|ack| ack.headers.get(sm::OFFSET).unwrap().as_i64() == Some(299)));
    outbox.try_push(ack(1, 300)).unwrap();
    batch.clear();
    outbox.take(0, &mut batch);
    assert_eq!(batch.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_was_taken_returns_to_the_budget() {
    let budget = Budget::new(8 << 20);
    let outbox = Outbox::with_lanes(&LinkConfig::default(), 0, Arc::default(), budget.clone());
    outbox.try_push(bulk(1 << 20)).unwrap();
    outbox.try_push(bulk(1 << 20)).unwrap();
    assert_eq!(budget.used(), 2 << 20);
    let mut batch = Vec::new();
    outbox.take(0, &mut batch);
    assert_eq!(batch.len(), 1);
    assert!(budget.used() < 2 << 20);
    assert_eq!(outbox.drain().len(), 1);
    assert_eq!(budget.used(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_lane_that_waits_uncounted_takes_no_room_from_the_others() {
    let budget = Budget::new(1 << 20);
    let outbox = Outbox::with_lanes(&LinkConfig::default(), 2, Arc::default(), budget.clone());
    let on = |lane, bytes| Outgoing { class: Class::Bulk(lane), ..bulk(bytes) };
    outbox.try_push(on(0, 1 << 20)).unwrap();
    outbox.try_push(on(1, 1 << 20)).unwrap();
    assert_eq!(budget.used(), 1 << 20);
    let mut batch = Vec::new();
    outbox.take(2, &mut batch);
    assert_eq!((batch.len(), budget.used()), (1, 1 << 20));
    batch.clear();
    outbox.take(1, &mut batch);
    assert_eq!((batch.len(), budget.used()), (1, 0));
}

//! zenoh: requests to a queryable, and publications to a subscriber that counts them. Blobs are publications too.

use std::{
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use zenoh::{Config, Session, Wait, bytes::ZBytes, pubsub::Publisher, qos::CongestionControl, query::Query};

use super::callers::ask_all;
use crate::child::{self, Job, OneWay, runtime};

const ECHO: &str = "bench/echo";
const COUNTED: &str = "bench/counted";
const PUSHED: &str = "bench/pushed";

/// Answers for ever: as a peer that listens, or as a client of a router.
pub(super) fn serve(router: Option<&str>) -> ! {
    let (session, address) = match router {
        Some(router) => (open("client", None, Some(router)), router.to_owned()),
        None => listen("peer"),
    };
    let counted = Arc::new(AtomicU64::new(0));
    let counting = counted.clone();
    let pushed = session.declare_subscriber(PUSHED).callback(move |_| {
        counting.fetch_add(1, SeqCst);
    });
    pushed.background().wait().expect("the session is open");
    let count = Box::new(move |_: &Query| counted.load(SeqCst).to_be_bytes().to_vec().into()) as Answer;
    let echo = Box::new(|query: &Query| query.payload().cloned().unwrap_or_default()) as Answer;
    // Who knows of the last one knows of all.
    for (key, answer) in [(ECHO, echo), (COUNTED, count)] {
        let queryable = session.declare_queryable(key).callback(move |query| {
            // Who asked may have gone.
            let _ = query.reply(key, answer(&query)).wait();
        });
        queryable.background().wait().expect("the session is open");
    }
    child::ready(address);
    child::stay()
}

/// What is replied to a query.
type Answer = Box<dyn Fn(&Query) -> ZBytes + Send + Sync>;

/// Routes for ever.
pub(super) fn relay() -> ! {
    let (_session, address) = listen("router");
    child::ready(address);
    child::stay()
}

/// Does the job, as a client of whoever listens.
pub(super) fn run(address: &str, job: &Job) -> Value {
    let session = open("client", None, Some(address));
    let mut way = Publishing::to_server(&session, job);
    match job.workload.as_str() {
        "rr" => {
            let payload = ZBytes::from(vec![7; job.size]);
            let querier = session.declare_querier(ECHO).congestion_control(CongestionControl::Block);
            let querier = Arc::new(querier.express(job.inflight == 1).wait().expect("the session is open"));
            let callers = (0..job.inflight).map(|_| {
                let (querier, payload) = (querier.clone(), payload.clone());
                move || {
                    let (querier, payload) = (querier.clone(), payload.clone());
                    async move {
                        let replies = querier.get().payload(payload).await.expect("the session is open");
                        let reply = replies.recv_async().await.expect("the server answers");
                        reply.result().expect("it has no reason to refuse");
                    }
                }
            });
            runtime().block_on(ask_all(job, callers))
        }
        "push" | "blob" => child::push(job, &mut way),
        other => panic!("{other} is not done by zenoh"),
    }
}

/// Publications, in a batch for each look at the clock.
struct Publishing<'s> {
    session: &'s Session,
    publisher: Publisher<'static>,
    payload: ZBytes,
    batch: u64,
    sent: u64,
}

impl<'s> Publishing<'s> {
    /// Waits until the server is known here.
    fn to_server(session: &'s Session, job: &Job) -> Self {
        let publisher = session.declare_publisher(PUSHED).congestion_control(CongestionControl::Block);
        let publisher = publisher.wait().expect("the session is open");
        let payload = ZBytes::from(vec![7; job.size]);
        let batch = if job.size < 1 << 16 { 64 } else { 1 };
        let this = Self { session, publisher, payload, batch, sent: 0 };
        let began = Instant::now();
        while !this.is_heard() {
            assert!(began.elapsed() < PATIENCE, "the server is there");
            thread::yield_now();
        }
        this
    }

    fn is_heard(&self) -> bool {
        let heard = self.publisher.matching_status().wait();
        heard.is_ok_and(|heard| heard.matching()) && self.counted().is_some()
    }

    /// What the server has counted, if it can be asked.
    fn counted(&self) -> Option<u64> {
        let replies = self.session.get(COUNTED).timeout(PATIENCE).wait().expect("the session is open");
        let reply = replies.recv().ok()?;
        let counted = reply.result().ok()?.payload().to_bytes();
        Some(u64::from_be_bytes(counted[..].try_into().expect("a number has eight bytes")))
    }
}

impl OneWay for Publishing<'_> {
    fn send(&mut self) -> u64 {
        for _ in 0..self.batch {
            self.publisher.put(self.payload.clone()).wait().expect("the session is open");
        }
        self.sent += self.batch;
        self.batch
    }

    /// Queries may overtake publications.
    fn arrived(&mut self) -> u64 {
        child::settle(self.sent, || self.counted().expect("the server answers"))
    }
}

/// For what takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

/// A session that listens at a port that was free a moment ago.
fn listen(mode: &str) -> (Session, String) {
    let probe = TcpListener::bind("127.0.0.1:0").and_then(|probe| probe.local_addr());
    let address = format!("tcp/{}", probe.expect("loopback is there"));
    (open(mode, Some(&address), None), address)
}

/// A session that nobody finds who does not know where it listens.
fn open(mode: &str, listens: Option<&str>, dials: Option<&str>) -> Session {
    let mut config = Config::default();
    for (key, value) in [
        ("mode", json!(mode)),
        ("listen/endpoints", json!(listens.into_iter().collect::<Vec<_>>())),
        ("connect/endpoints", json!(dials.into_iter().collect::<Vec<_>>())),
        ("scouting/multicast/enabled", json!(false)),
    ] {
        config.insert_json5(key, &value.to_string()).expect("zenoh has such a setting");
    }
    zenoh::open(config).wait().expect("the address is free, or somebody listens there")
}

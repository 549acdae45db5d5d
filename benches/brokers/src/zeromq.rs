//! A dealer that asks a router, and a socket that pushes to one that pulls and counts.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    thread,
    time::Instant,
};

use serde_json::Value;
use zmq::{Context, SNDMORE, Socket, SocketType};

use crate::child::{self, Job, OneWay, Tally};

const ECHO: &[u8] = b"e";
const SWALLOW: &[u8] = b"s";
const COUNT: &[u8] = b"c";

/// Answers for ever.
pub(crate) fn serve() -> ! {
    let context = Context::new();
    let (router, pull) = (bound(&context, zmq::ROUTER), bound(&context, zmq::PULL));
    child::ready(format!("{} {}", address(&router), address(&pull)));
    let counted = Arc::new(AtomicU64::new(0));
    let counting = counted.clone();
    thread::spawn(move || {
        let mut message = zmq::Message::new();
        loop {
            pull.recv(&mut message, 0).expect("the socket is open");
            counting.fetch_add(1, SeqCst);
        }
    });
    let mut parts = [zmq::Message::new(), zmq::Message::new(), zmq::Message::new()];
    loop {
        for part in &mut parts {
            router.recv(part, 0).expect("the socket is open");
        }
        let [from, what, payload] = &mut parts;
        let answer = match &what[..] {
            ECHO => std::mem::replace(payload, zmq::Message::new()),
            SWALLOW => zmq::Message::new(),
            COUNT => counted.load(SeqCst).to_be_bytes()[..].into(),
            other => panic!("nothing is done for {other:?}"),
        };
        router.send(&from[..], SNDMORE).expect("the socket is open");
        router.send(answer, 0).expect("the socket is open");
    }
}

/// Does the job.
pub(crate) fn run(addresses: &str, job: &Job) -> Value {
    let (router, pull) = addresses.split_once(' ').expect("there are two");
    let context = Context::new();
    let asking = Asking { dealer: connected(&context, zmq::DEALER, router), payload: vec![7; job.size] };
    match job.workload.as_str() {
        "rr" => asking.repeat(ECHO, job),
        "blob" => asking.repeat(SWALLOW, job),
        "push" => {
            let push = connected(&context, zmq::PUSH, pull);
            child::push(job, &mut Pushing { push, asking, sent: 0 })
        }
        other => panic!("{other} is not done by ZeroMQ"),
    }
}

struct Asking {
    dealer: Socket,
    payload: Vec<u8>,
}

impl Asking {
    /// Asks again whenever an answer comes; answers come in the order of questions.
    fn repeat(&self, what: &[u8], job: &Job) -> Value {
        let mut tally = Tally::start(job);
        let mut asked: VecDeque<Instant> = (0..job.inflight).map(|_| self.ask(what)).collect();
        let mut answer = zmq::Message::new();
        while let Some(began) = asked.pop_front() {
            self.dealer.recv(&mut answer, 0).expect("the server answers");
            if tally.note(began) {
                asked.push_back(self.ask(what));
            }
        }
        tally.figures()
    }

    fn ask(&self, what: &[u8]) -> Instant {
        let now = Instant::now();
        self.dealer.send(what, SNDMORE).expect("the socket is open");
        self.dealer.send(&self.payload, 0).expect("the socket is open");
        now
    }
}

struct Pushing {
    push: Socket,
    asking: Asking,
    sent: u64,
}

impl OneWay for Pushing {
    fn send(&mut self) -> u64 {
        for _ in 0..BATCH {
            self.push.send(&self.asking.payload, 0).expect("the socket is open");
        }
        self.sent += BATCH;
        BATCH
    }

    fn arrived(&mut self) -> u64 {
        child::settle(self.sent, || {
            self.asking.ask(COUNT);
            let counted = self.asking.dealer.recv_bytes(0).expect("the server answers");
            u64::from_be_bytes(counted[..].try_into().expect("a number has eight bytes"))
        })
    }
}

/// Messages between two looks at the clock.
const BATCH: u64 = 64;

fn bound(context: &Context, kind: SocketType) -> Socket {
    let socket = open(context, kind);
    socket.bind("tcp://127.0.0.1:*").expect("loopback is there");
    socket
}

fn address(socket: &Socket) -> String {
    socket.get_last_endpoint().expect("it is bound").expect("an address is text")
}

fn connected(context: &Context, kind: SocketType, address: &str) -> Socket {
    let socket = open(context, kind);
    socket.connect(address).expect("the address is valid");
    socket
}

fn open(context: &Context, kind: SocketType) -> Socket {
    let socket = context.socket(kind).expect("a socket of a known kind");
    socket
        .set_sndhwm(HELD)
        .and_then(|()| socket.set_rcvhwm(HELD))
        .expect("all sockets have high-water marks");
    socket
}

/// Messages that either end may hold; by the thousand of the default, who pushes stops and goes.
const HELD: i32 = 100_000;

//! NATS: requests to subjects, and publications to a subscriber that counts them, between two clients of a server.

use std::time::Instant;

use async_nats::{Client, ConnectOptions, Message, Subject, Subscriber};
use bytes::Bytes;
use futures_util::StreamExt;
use serde_json::Value;
use tokio::{runtime::Runtime, task::JoinSet};

use crate::child::{self, Job, OneWay, Tally};

const ECHO: Subject = Subject::from_static("bench.echo");
const SWALLOW: Subject = Subject::from_static("bench.swallow");
const PUSHED: Subject = Subject::from_static("bench.pushed");

/// Answers for ever, as a client of the server of NATS.
pub(crate) fn serve(server: &str) -> ! {
    let ended = child::runtime().block_on(async {
        let client = connected(server).await;
        let mut tasks = JoinSet::new();
        tasks.spawn(answer(client.clone(), subscribed(&client, ECHO).await, |payload| payload));
        tasks.spawn(answer(client.clone(), subscribed(&client, SWALLOW).await, |_| Bytes::new()));
        tasks.spawn(count(client.clone(), subscribed(&client, PUSHED).await));
        heard(&client).await;
        child::ready(server);
        tasks.join_next().await
    });
    panic!("the server of NATS has gone: {ended:?}")
}

/// Returns when the server of NATS knows of all subscriptions: it takes what a client says in order.
async fn heard(client: &Client) {
    let inbox = Subject::from(client.new_inbox());
    let mut echo = subscribed(client, inbox.clone()).await;
    publish(client, inbox, Bytes::new()).await;
    next(&mut echo).await;
}

async fn answer(client: Client, mut asked: Subscriber, answer: fn(Bytes) -> Bytes) {
    while let Some(question) = asked.next().await {
        publish(&client, question.reply.expect("it is a request"), answer(question.payload)).await;
    }
}

/// Counts messages, and tells how many when one asks for a reply.
async fn count(client: Client, mut pushed: Subscriber) {
    let mut counted = 0_u64;
    while let Some(message) = pushed.next().await {
        match message.reply {
            None => counted += 1,
            Some(reply) => publish(&client, reply, counted.to_be_bytes().to_vec().into()).await,
        }
    }
}

/// Does the job.
pub(crate) fn run(server: &str, job: &Job) -> Value {
    let runtime = child::runtime();
    let asking = runtime.block_on(Asking::connect(server, job));
    let subject = match job.workload.as_str() {
        "rr" => ECHO,
        "blob" => SWALLOW,
        "push" => return child::push(job, &mut Pushing { runtime: &runtime, asking, under_way: 0 }),
        other => panic!("{other} is not done by NATS"),
    };
    // Where the connection is served, too.
    let figures = runtime.spawn(asking.repeat(subject, job.clone()));
    runtime.block_on(figures).expect("all is answered")
}

/// Requests whose answers come by one subscription, each to a name that is used again. `Client::request` has a new name, a
/// future and a timer for each, and is slower.
struct Asking {
    client: Client,
    payload: Bytes,
    /// One for each that may be under way at the same time.
    inboxes: Vec<Subject>,
    answers: Subscriber,
}

impl Asking {
    async fn connect(server: &str, job: &Job) -> Self {
        let client = connected(server).await;
        let prefix = client.new_inbox();
        let inboxes = (0..job.inflight).map(|number| format!("{prefix}.{number}").into()).collect();
        let answers = subscribed(&client, format!("{prefix}.*").into()).await;
        Self { client, payload: vec![7; job.size].into(), inboxes, answers }
    }

    /// Asks again whenever an answer comes.
    async fn repeat(mut self, subject: Subject, job: Job) -> Value {
        let mut tally = Tally::start(&job);
        let mut began = vec![Instant::now(); self.inboxes.len()];
        for inbox in &self.inboxes {
            self.ask(&subject, inbox, &self.payload).await;
        }
        let mut under_way = began.len();
        while under_way > 0 {
            let answer = next(&mut self.answers).await;
            assert!(answer.status.is_none(), "the server of NATS answers itself: {answer:?}");
            let number = answer.subject.rsplit('.').next().and_then(|number| number.parse().ok());
            let number: usize = number.expect("it is one of the inboxes");
            if tally.note(began[number]) {
                began[number] = Instant::now();
                self.ask(&subject, &self.inboxes[number], &self.payload).await;
            } else {
                under_way -= 1;
            }
        }
        tally.figures()
    }

    async fn ask(&self, subject: &Subject, inbox: &Subject, payload: &Bytes) {
        let asked = self.client.publish_with_reply(subject.clone(), inbox.clone(), payload.clone());
        asked.await.expect("the connection stays");
    }
}

/// Publications. The server of NATS drops what a subscriber is too slow for, so each batch ends with a question how many have
/// arrived, and no more batches are under way than all of them hold.
struct Pushing<'r> {
    runtime: &'r Runtime,
    asking: Asking,
    /// Batches whose question was not answered yet.
    under_way: usize,
}

impl OneWay for Pushing<'_> {
    fn send(&mut self) -> u64 {
        self.runtime.block_on(self.publish());
        BATCH
    }

    fn arrived(&mut self) -> u64 {
        self.runtime.block_on(self.count())
    }
}

impl Pushing<'_> {
    async fn publish(&mut self) {
        for _ in 0..BATCH {
            publish(&self.asking.client, PUSHED, self.asking.payload.clone()).await;
        }
        self.ask().await;
        if self.under_way > MOST_BATCHES {
            self.counted().await;
        }
    }

    /// What had arrived when the last question did: messages do not overtake each other.
    async fn count(&mut self) -> u64 {
        self.ask().await;
        loop {
            let arrived = self.counted().await;
            if self.under_way == 0 {
                return arrived;
            }
        }
    }

    async fn ask(&mut self) {
        self.asking.ask(&PUSHED, &self.asking.inboxes[0], &Bytes::new()).await;
        self.under_way += 1;
    }

    async fn counted(&mut self) -> u64 {
        let counted = next(&mut self.asking.answers).await.payload;
        self.under_way -= 1;
        u64::from_be_bytes(counted[..].try_into().expect("a number has eight bytes"))
    }
}

/// Messages between two looks at the clock.
const BATCH: u64 = 1024;

/// What is under way is some 6 MiB in the server of NATS, which holds 64 MiB for a subscriber.
const MOST_BATCHES: usize = 64;

/// Messages that a subscription holds: all that are under way, and their questions.
const HELD: usize = 2 * MOST_BATCHES * BATCH as usize;

async fn connected(server: &str) -> Client {
    let options = ConnectOptions::new().subscription_capacity(HELD);
    options.connect(server).await.expect("the server of NATS is there")
}

async fn subscribed(client: &Client, subject: Subject) -> Subscriber {
    client.subscribe(subject).await.expect("the connection stays")
}

async fn publish(client: &Client, subject: Subject, payload: Bytes) {
    client.publish(subject, payload).await.expect("the connection stays");
}

async fn next(subscriber: &mut Subscriber) -> Message {
    subscriber.next().await.expect("the connection stays")
}

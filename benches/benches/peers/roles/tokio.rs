//! Bare connections of tokio: the least that the same work costs.
//!
//! A frame is its length in four bytes and so many bytes. The first byte of a connection says what is done on it.

mod frames;

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex},
    time::Instant,
};

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional_with_sizes},
    net::{TcpListener, TcpStream, ToSocketAddrs},
    runtime::{Builder, Runtime},
    task::{JoinSet, LocalSet, spawn_local},
};

use crate::child::{self, Job, OneWay, Tally};
use frames::{Frames, HEAD};

const ECHO: u8 = b'e';
const COUNT: u8 = b'c';
const SWALLOW: u8 = b's';

/// Answers for ever.
pub(super) fn serve() -> ! {
    listen(|mut stream| async move {
        match stream.read_u8().await? {
            ECHO => echo(Frames::new(stream)).await,
            COUNT => count(Frames::new(stream)).await,
            SWALLOW => swallow(stream).await,
            other => Err(io::Error::other(format!("nothing is done for {other}"))),
        }
    })
}

/// Copies both ways between whoever dials it and the server.
pub(super) fn relay(server: String) -> ! {
    listen(move |mut near| {
        let server = server.clone();
        async move {
            let mut far = dial(server).await?;
            copy_bidirectional_with_sizes(&mut near, &mut far, COPIED, COPIED).await.map(drop)
        }
    })
}

/// What is read at once between two connections.
const COPIED: usize = 256 << 10;

/// What is read or written at once of a blob.
const PIECE: usize = 1 << 20;

/// Lets one thread do this for everybody who dials.
fn listen<F>(attend: impl Fn(TcpStream) -> F) -> !
where
    F: Future<Output = io::Result<()>> + 'static,
{
    let ended = LocalSet::new().block_on(&runtime(), accept_all(attend));
    panic!("loopback is there: {ended:?}")
}

async fn accept_all<F>(attend: impl Fn(TcpStream) -> F) -> io::Result<()>
where
    F: Future<Output = io::Result<()>> + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    child::ready(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        // Who ends a connection breaks off what is done on it.
        spawn_local(attend(stream));
    }
}

async fn echo(mut frames: Frames) -> io::Result<()> {
    loop {
        while let Some(frame) = frames.next_held() {
            frames.put(&frame);
        }
        frames.flush().await?;
        frames.read_more().await?;
    }
}

/// Counts frames, and tells how many when one is empty.
async fn count(mut frames: Frames) -> io::Result<()> {
    let mut counted = 0_u64;
    loop {
        while let Some(frame) = frames.next_held() {
            if frame.is_empty() {
                frames.put(&counted.to_be_bytes());
            } else {
                counted += 1;
            }
        }
        frames.flush().await?;
        frames.read_more().await?;
    }
}

/// Reads blobs into the same memory again and again; answers each with an empty frame.
async fn swallow(mut stream: TcpStream) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let mut left = stream.read_u32().await? as usize;
        while left > 0 {
            let now = left.min(PIECE);
            stream.read_exact(&mut piece[..now]).await?;
            left -= now;
        }
        stream.write_all(&[0; HEAD]).await?;
    }
}

/// Does the job.
pub(super) fn run(address: &str, job: &Job) -> Value {
    let runtime = runtime();
    match job.workload.as_str() {
        "rr" => runtime.block_on(ask_all(address, job)),
        "push" => {
            let batch = Frames::encoded(&vec![7; job.size]).repeat(BATCH / (HEAD + job.size));
            let frames = runtime.block_on(async { Frames::new(open(address, COUNT).await) });
            let in_batch = (batch.len() / (HEAD + job.size)) as u64;
            child::push(job, &mut Pushing { runtime, frames, batch, in_batch })
        }
        "blob" => runtime.block_on(send_blobs(address, job)),
        other => panic!("{other} is not done by a bare connection"),
    }
}

/// What is written at once where nobody waits for answers.
const BATCH: usize = 64 << 10;

/// A connection for each client, which has so many questions under way.
async fn ask_all(address: &str, job: &Job) -> Value {
    let mut clients = Vec::new();
    for _ in 0..job.clients {
        clients.push(Frames::new(open(address, ECHO).await));
    }
    let tally = Arc::new(Mutex::new(Tally::start(job)));
    let mut tasks = JoinSet::new();
    for frames in clients {
        tasks.spawn(ask(frames, job.clone(), tally.clone()));
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no client panics").expect("the server answers");
    }
    tally.lock().expect("nobody panics with it").figures()
}

async fn ask(mut frames: Frames, job: Job, tally: Arc<Mutex<Tally>>) -> io::Result<()> {
    let question = vec![7; job.size];
    let mut asked: VecDeque<Instant> = (0..job.inflight).map(|_| Instant::now()).collect();
    asked.iter().for_each(|_| frames.put(&question));
    while !asked.is_empty() {
        frames.flush().await?;
        frames.read_more().await?;
        let mut tally = tally.lock().expect("nobody panics with it");
        while let Some(answer) = frames.next_held() {
            assert_eq!(answer.len(), job.size);
            let began = asked.pop_front().expect("answers come to what was asked");
            if tally.note(began) {
                frames.put(&question);
                asked.push_back(Instant::now());
            }
        }
    }
    Ok(())
}

/// Writes blobs from the same memory again and again, each when the one before it was answered.
async fn send_blobs(address: &str, job: &Job) -> Value {
    let (mut stream, mut piece) = (open(address, SWALLOW).await, vec![7; HEAD + PIECE.min(job.size)]);
    piece[..HEAD].copy_from_slice(&(job.size as u32).to_be_bytes());
    let mut tally = Tally::start(job);
    let mut goes_on = true;
    while goes_on {
        let began = Instant::now();
        send_blob(&mut stream, &piece, job.size).await.expect("the server reads and answers");
        goes_on = tally.note(began);
    }
    tally.figures()
}

/// The first piece goes out with the length before it.
async fn send_blob(stream: &mut TcpStream, piece: &[u8], size: usize) -> io::Result<()> {
    stream.write_all(piece).await?;
    let body = &piece[HEAD..];
    for _ in 1..size / body.len() {
        stream.write_all(body).await?;
    }
    stream.read_exact(&mut [0; HEAD]).await.map(drop)
}

/// Batches of frames, in one write each.
struct Pushing {
    runtime: Runtime,
    frames: Frames,
    batch: Vec<u8>,
    in_batch: u64,
}

impl OneWay for Pushing {
    fn send(&mut self) -> u64 {
        self.runtime.block_on(self.frames.write(&self.batch)).expect("the server reads");
        self.in_batch
    }

    fn arrived(&mut self) -> u64 {
        let Self { runtime, frames, .. } = self;
        frames.put(&[]);
        let counted = runtime.block_on(async {
            frames.flush().await?;
            loop {
                match frames.next_held() {
                    Some(counted) => return Ok::<_, io::Error>(counted),
                    None => frames.read_more().await?,
                }
            }
        });
        let counted = counted.expect("the server answers");
        u64::from_be_bytes(counted[..].try_into().expect("a number has eight bytes"))
    }
}

async fn open(address: &str, what: u8) -> TcpStream {
    let mut stream = dial(address).await.expect("the server is there");
    stream.write_u8(what).await.expect("the server reads");
    stream
}

async fn dial(address: impl ToSocketAddrs) -> io::Result<TcpStream> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime starts")
}

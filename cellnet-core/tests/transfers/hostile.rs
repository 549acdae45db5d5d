//! Sources that lie, and strangers that guess.

use std::{
    fs,
    os::unix::fs::symlink,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use cellnet_core::{
    Fqcn,
    cell::{Cell, HandlerError, Request},
    message::{Message, ReturnCode},
    transfer::{
        BLOCK as BLOCK_TOPIC, BlockAsk, CHANNEL, DONE, LIST, OFFER, REASON, Reason, SendOptions, Token,
        Transfers, VALUE_LEN,
    },
    wire::{Limits, Value},
};

use crate::support::*;

/// A source made by hand. Its manifest is what the test says, and so are its blocks.
#[derive(Clone)]
struct Source {
    cell: Cell,
    token: Token,
    done: Arc<Mutex<Vec<Value>>>,
}

type Blocks = Arc<dyn Fn(BlockAsk) -> Message + Send + Sync>;

pub(crate) fn map(pairs: Vec<(&str, Value)>) -> Value {
    Value::Map(pairs.into_iter().map(|(key, value)| (Value::from(key), value)).collect())
}

pub(crate) fn bin(bytes: &[u8]) -> Value {
    Value::from(Bytes::copy_from_slice(bytes))
}

pub(crate) fn message(value: &Value) -> Message {
    let mut bytes = bytes::BytesMut::new();
    value.encode(&mut bytes);
    Message::new(bytes.freeze())
}

fn entry(path: &str, dir: bool, size: u64) -> Value {
    map(vec![
        ("path", Value::from(path)),
        ("dir", Value::from(dir)),
        ("size", Value::from(size)),
        ("mode", Value::from(0o644_u64)),
        ("mtime", Value::from(vec![Value::from(1_000_000_000_u64), Value::from(0_u64)])),
        ("fingerprint", bin(&[7; 16])),
    ])
}

impl Source {
    async fn new(net: &Net, entries: Vec<Value>, blocks: Blocks) -> Self {
        Self::of(net.site("liar").await, entries, blocks)
    }

    fn of(cell: Cell, entries: Vec<Value>, blocks: Blocks) -> Self {
        let done = Arc::<Mutex<Vec<Value>>>::default();
        let page = Value::Array(entries);
        cell.handle(CHANNEL, LIST, move |_| {
            let page = message(&map(vec![("entries", page.clone())]));
            async move { Ok::<_, HandlerError>(page) }
        });
        cell.handle(CHANNEL, BLOCK_TOPIC, move |request: Request| {
            let ask = BlockAsk::decode(request.message.payload.as_bytes()).unwrap();
            let reply = blocks(ask);
            async move { Ok::<_, HandlerError>(reply) }
        });
        let heard = done.clone();
        cell.handle(CHANNEL, DONE, move |request: Request| {
            heard
                .lock()
                .unwrap()
                .push(Value::decode(&request.message.payload.to_bytes(), Limits::PAYLOAD).unwrap());
            async move { Ok::<_, HandlerError>(Message::empty()) }
        });
        Self { cell, token: Token::random(), done }
    }

    async fn offer(&self, path: &str, (entries, files, bytes): (u64, u64, u64)) -> Message {
        self.offer_with(path, (entries, files, bytes), BLOCK as u64).await
    }

    async fn offer_with(&self, path: &str, (entries, files, bytes): (u64, u64, u64), block: u64) -> Message {
        let offer = map(vec![
            ("token", bin(&self.token.0)),
            ("path", Value::from(path)),
            ("entries", Value::from(entries)),
            ("files", Value::from(files)),
            ("bytes", Value::from(bytes)),
            ("stored", Value::from(0_u64)),
            ("block", Value::from(block)),
            ("fingerprint", bin(&[3; 16])),
            ("overwrite", Value::from(false)),
        ]);
        self.cell.request(&Fqcn::server(), CHANNEL, OFFER, message(&offer)).await.unwrap()
    }
}

/// Blocks of some content, with right values.
fn honest(content: &[u8], ask: BlockAsk) -> Message {
    let offset = ask.block as usize * BLOCK;
    let block = &content[offset..content.len().min(offset + BLOCK)];
    Message::new([&value(offset, block)[..], block].concat())
}

fn value(offset: usize, block: &[u8]) -> [u8; VALUE_LEN] {
    use blake3::hazmat::HasherExt;
    let mut hasher = blake3::Hasher::new();
    hasher.set_input_offset(offset as u64);
    hasher.update(block);
    hasher.finalize_non_root()
}

pub(crate) fn word(reply: &Message) -> &str {
    reply.headers.text(REASON).map_or("", |word| word)
}

/// Bytes and values that fit each other, but are not what the source has: the source says so in the end.
#[tokio::test(start_paused = true)]
async fn what_the_source_does_not_recognise_gets_no_name_and_leaves_nothing() {
    let net = Net::new().await;
    let receiver = net.receiver().await;
    let mut arrivals = receiver.arrivals();
    let bytes = content(3 * BLOCK);
    let blocks: Blocks = Arc::new(move |ask| honest(&bytes, ask));
    let source = Source::new(&net, vec![entry("x", false, 3 * BLOCK as u64)], blocks).await;
    source.cell.handle(CHANNEL, DONE, |_| async {
        let no = Message::failure(ReturnCode::PROCESS_EXCEPTION, "not mine").with_header(REASON, "corrupt");
        Ok::<_, HandlerError>(no)
    });
    assert!(source.offer("", (1, 1, 3 * BLOCK as u64)).await.is_ok());
    assert_eq!(arrivals.next().await.unwrap().outcome.unwrap_err().reason(), Reason::Corrupt);
    assert_eq!(net.received(), [""; 0]);
}

/// What the receiver says about a source with one file, and which blocks it had to ask for.
async fn outcome(size: u64, claimed: u64, blocks: Blocks) -> (Net, Option<Reason>) {
    let net = Net::new().await;
    let receiver = net.receiver().await;
    let mut arrivals = receiver.arrivals();
    let source = Source::new(&net, vec![entry("x", false, size)], blocks).await;
    assert!(source.offer("", (1, 1, claimed)).await.is_ok());
    let outcome = arrivals.next().await.unwrap().outcome;
    let reason = outcome.err().map(|error| error.reason());
    // Whoever sent it knows as well.
    let said = source.done.lock().unwrap().last().unwrap().get("failure").cloned();
    let said = match said {
        Some(Value::Array(words)) => words[0].as_str().map(str::to_owned),
        _ => None,
    };
    assert_eq!(said.as_deref(), reason.map(Reason::as_str));
    assert!(reason.is_none() || !net.inbox().join("x").exists());
    drop(receiver);
    (net, reason)
}

#[tokio::test(start_paused = true)]
async fn an_honest_source_made_by_hand_is_received() {
    let bytes = content(3 * BLOCK + 1);
    let len = bytes.len() as u64;
    let (net, reason) = outcome(len, len, Arc::new(move |ask| honest(&bytes, ask))).await;
    assert_eq!(reason, None);
    assert_eq!(fs::read(net.inbox().join("x")).unwrap(), content(3 * BLOCK + 1));
}

#[tokio::test(start_paused = true)]
async fn a_damaged_block_is_asked_for_again_past_any_cache() {
    let bytes = content(8 * BLOCK);
    let len = bytes.len() as u64;
    let times = Arc::new(AtomicUsize::new(0));
    let seen = times.clone();
    let blocks = move |ask: BlockAsk| {
        let reply = honest(&bytes, ask);
        if ask.block != 5 || seen.fetch_add(1, Relaxed) >= 2 {
            return reply;
        }
        let mut damaged = reply.payload.as_bytes().to_vec();
        damaged[VALUE_LEN + 1000] ^= 4;
        Message::new(damaged)
    };
    let (net, reason) = outcome(len, len, Arc::new(blocks)).await;
    assert_eq!((reason, times.load(Relaxed)), (None, 3));
    assert_eq!(fs::read(net.inbox().join("x")).unwrap(), content(8 * BLOCK));
}

#[tokio::test(start_paused = true)]
async fn a_block_that_is_always_damaged_ends_it() {
    let bytes = content(8 * BLOCK);
    let len = bytes.len() as u64;
    let blocks = move |ask: BlockAsk| {
        let mut reply = honest(&bytes, ask).payload.as_bytes().to_vec();
        reply[VALUE_LEN] ^= u8::from(ask.block == 2);
        Message::new(reply)
    };
    assert_eq!(outcome(len, len, Arc::new(blocks)).await.1, Some(Reason::Corrupt));
}

#[tokio::test(start_paused = true)]
async fn sizes_that_do_not_add_up_end_it() {
    let len = 4 * BLOCK as u64;
    let blocks = || -> Blocks { Arc::new(|ask| honest(&content(4 * BLOCK), ask)) };
    assert_eq!(outcome(len, len + 1, blocks()).await.1, Some(Reason::SizeMismatch));
    assert_eq!(outcome(len, len - 1, blocks()).await.1, Some(Reason::SizeMismatch));
    let short: Blocks = Arc::new(|ask| honest(&content(4 * BLOCK - 1), ask));
    assert_eq!(outcome(len, len, short).await.1, Some(Reason::SizeMismatch));
    let long: Blocks = Arc::new(|_| Message::new(vec![0; VALUE_LEN + 2 * BLOCK]));
    assert_eq!(outcome(len, len, long).await.1, Some(Reason::SizeMismatch));
    let nothing: Blocks = Arc::new(|_| Message::empty());
    assert_eq!(outcome(len, len, nothing).await.1, Some(Reason::SizeMismatch));
}

#[tokio::test(start_paused = true)]
async fn a_file_without_a_size_is_not_taken_for_one_that_has_some() {
    let net = Net::new().await;
    let receiver = net.receiver().await;
    let mut arrivals = receiver.arrivals();
    let mut endless = entry("x", false, 0);
    let Value::Map(pairs) = &mut endless else { panic!("an entry is a map") };
    pairs.iter_mut().filter(|(key, _)| *key == Value::from("size")).for_each(|(_, size)| *size = Value::Nil);
    let blocks = |ask: BlockAsk| match ask.block {
        0..100 => honest(&content(100 * BLOCK), ask),
        _ => Message::failure(ReturnCode::PROCESS_EXCEPTION, "enough").with_header(REASON, "source_changed"),
    };
    let source = Source::new(&net, vec![endless], Arc::new(blocks)).await;
    assert!(source.offer("", (1, 1, BLOCK as u64)).await.is_ok());
    let error = arrivals.next().await.unwrap().outcome.unwrap_err();
    assert_eq!(error.reason(), Reason::SizeMismatch, "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_file_larger_than_any_disk_takes_no_memory() {
    let blocks: Blocks = Arc::new(|_| {
        Message::failure(ReturnCode::PROCESS_EXCEPTION, "no more").with_header(REASON, "source_changed")
    });
    assert_eq!(outcome(u64::MAX, u64::MAX, blocks).await.1, Some(Reason::SourceChanged));
}

#[tokio::test(start_paused = true)]
async fn manifests_do_not_lead_out_of_the_inbox() {
    let nothing = || -> Blocks { Arc::new(|_| Message::empty()) };
    for (entries, reason) in [
        (vec![entry("../x", false, 0)], Reason::OutsideInbox),
        (vec![entry("/x", false, 0)], Reason::OutsideInbox),
        (vec![entry("d", true, 0), entry("d/../../x", false, 0)], Reason::OutsideInbox),
        (vec![entry("", false, 0)], Reason::InvalidPath),
        (vec![entry("x\0y", false, 0)], Reason::InvalidPath),
        (vec![entry("x.cellnet-journal", false, 0)], Reason::InvalidPath),
        (vec![entry("d/x", false, 0)], Reason::Protocol),
        (vec![entry("d", true, 0), entry("e/x", false, 0)], Reason::Protocol),
        (vec![entry("d", false, 0), entry("d/x", false, 0)], Reason::Protocol),
        (vec![entry("d", true, 0), entry("d/missing/x", false, 0)], Reason::NotFound),
        (vec![entry("link", true, 0), entry("link/x", false, 0)], Reason::Exists),
        (vec![entry("x", false, 0), entry("x", false, 0)], Reason::Exists),
    ] {
        let net = Net::new().await;
        let receiver = net.receiver().await;
        let mut arrivals = receiver.arrivals();
        let outside = net.dir.path().join("outside");
        fs::create_dir(&outside).unwrap();
        symlink(&outside, net.inbox().join("link")).unwrap();
        let shown = format!("{entries:?}");
        let count = entries.len() as u64;
        let files = entries.iter().filter(|entry| entry.get("dir") == Some(&Value::Bool(false))).count();
        let source = Source::new(&net, entries, nothing()).await;
        assert!(source.offer("", (count, files as u64, 0)).await.is_ok());
        let outcome = arrivals.next().await.unwrap().outcome;
        let found = outcome.expect_err(&shown).reason();
        assert!(found == reason || (reason == Reason::Exists && found == Reason::Busy), "{shown}: {found}");
        assert_eq!(names(&outside), [""; 0], "{shown}");
        assert_eq!(names(net.dir.path()), ["inbox", "outside", "source"], "{shown}");
    }
}

#[tokio::test(start_paused = true)]
async fn names_take_no_more_memory_than_there_is_for_them() {
    let net = Net::new().await;
    let mut config = net.inbox_config();
    config.names = 100_000;
    let receiver = Transfers::attach(&net.server, config).await.unwrap();
    let mut arrivals = receiver.arrivals();
    let entries = (0..200).map(|at| entry(&format!("{at:0200}"), true, 0)).collect();
    let source = Source::new(&net, entries, Arc::new(|_| Message::empty())).await;
    assert!(source.offer("", (200, 0, 0)).await.is_ok());
    assert!(arrivals.next().await.unwrap().outcome.is_ok());
    let entries = (0..300).map(|at| entry(&format!("{at:0200}"), true, 0)).collect();
    let source = Source::of(source.cell, entries, Arc::new(|_| Message::empty()));
    assert!(source.offer("again/", (300, 0, 0)).await.is_ok());
    assert_eq!(arrivals.next().await.unwrap().outcome.unwrap_err().reason(), Reason::TooMany);
}

#[tokio::test(start_paused = true)]
async fn offers_that_make_no_sense_are_refused_at_once() {
    let net = Net::new().await;
    let _receiver = net.receiver().await;
    let source = Source::new(&net, Vec::new(), Arc::new(|_| Message::empty())).await;
    for (path, counts, block, reason) in [
        ("..", (1, 1, 1), BLOCK as u64, Reason::OutsideInbox),
        ("/abs", (1, 1, 1), BLOCK as u64, Reason::OutsideInbox),
        ("", (0, 0, 0), BLOCK as u64, Reason::Protocol),
        ("", (1, 2, 0), BLOCK as u64, Reason::Protocol),
        ("", (1 << 30, 1, 0), BLOCK as u64, Reason::TooMany),
        ("", (1, 1, 1), 0, Reason::Unsupported),
        ("", (1, 1, 1), 4096, Reason::Unsupported),
        ("", (1, 1, 1), (1 << 30) as u64, Reason::Unsupported),
        ("", (1, 1, 1), BLOCK as u64 + 1, Reason::Unsupported),
    ] {
        let reply = source.offer_with(path, counts, block).await;
        assert_eq!(word(&reply), reason.as_str(), "{path} {counts:?} {block}");
        assert!(!reply.is_ok());
    }
    let garbage = Message::new(vec![0xc1; 40]);
    let reply = source.cell.request(&Fqcn::server(), CHANNEL, OFFER, garbage).await.unwrap();
    assert_eq!(word(&reply), "protocol");
}

#[tokio::test(start_paused = true)]
async fn strangers_and_those_who_guess_get_nothing() {
    let net = Net::new().await;
    let receiver_cell = net.site("receiver").await;
    let _receiver = Transfers::attach(&receiver_cell, net.inbox_config()).await.unwrap();
    let stranger = net.site("stranger").await;
    // The offer is seen on its way, as somebody might who reads along.
    let seen = Arc::<Mutex<Option<Token>>>::default();
    let (note, sender) = (seen.clone(), Transfers::attach(&net.server, sender_config()).await.unwrap());
    receiver_cell.handle(CHANNEL, OFFER, move |request: Request| {
        let offer = Value::decode(&request.message.payload.to_bytes(), Limits::PAYLOAD).unwrap();
        let Some(Value::Bin(token)) = offer.get("token") else { panic!("{offer:?}") };
        *note.lock().unwrap() = Some(Token(token[..].try_into().unwrap()));
        async move { Ok::<_, HandlerError>(Message::failure(ReturnCode::SERVICE_UNAVAILABLE, "later")) }
    });
    let path = net.file("model", 10);
    let _sending = sender.send([&path], receiver_cell.name(), "", SendOptions::default());
    until("the offer came", || seen.lock().unwrap().is_some()).await;
    let token = seen.lock().unwrap().unwrap();
    let ask = |token| Message::new(BlockAsk { token, file: 0, block: 0 }.encode());
    let server = Fqcn::server();
    let good = receiver_cell.request(&server, CHANNEL, BLOCK_TOPIC, ask(token)).await.unwrap();
    assert_eq!(good.payload.len(), VALUE_LEN + 10);
    for (cell, token) in [(&stranger, token), (&receiver_cell, Token([1; 16])), (&stranger, Token([0; 16]))] {
        let reply = cell.request(&server, CHANNEL, BLOCK_TOPIC, ask(token)).await.unwrap();
        assert_eq!((word(&reply), reply.payload.len()), ("stranger", 0));
    }
    // Nonsense of one receiver is no failure of the source.
    for (file, block) in [(1, 0), (0, 1), (u32::MAX, u64::MAX)] {
        let message = Message::new(BlockAsk { token, file, block }.encode());
        let reply = receiver_cell.request(&server, CHANNEL, BLOCK_TOPIC, message).await.unwrap();
        assert_eq!(word(&reply), "protocol");
    }
    assert!(receiver_cell.request(&server, CHANNEL, BLOCK_TOPIC, ask(token)).await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_accepts_and_does_nothing_is_given_up() {
    let net = Net::new().await;
    net.server.handle(CHANNEL, OFFER, |_| async {
        let idle = map(vec![
            ("safe", Value::from(5_u64)),
            ("resumed", Value::from(0_u64)),
            ("activity", Value::from(1_u64)),
            ("receipt", Value::Nil),
        ]);
        Ok::<_, HandlerError>(message(&idle))
    });
    let sender = net.sender("site").await;
    let error = send(&sender, &net.file("a", 10), "").await.unwrap_err();
    assert_eq!(error.reason(), Reason::Stalled, "{error}");
}

#[test]
fn a_request_for_a_block_has_one_form() {
    let ask = BlockAsk { token: Token([0xab; 16]), file: 3, block: 300 };
    let bytes = ask.encode();
    assert_eq!(bytes[..3], [0x93, 0xc4, 16]);
    assert_eq!(bytes[19..], [3, 0xcd, 1, 44]);
    assert_eq!(BlockAsk::decode(&bytes), Some(ask));
    // The same, said longer.
    let mut long = bytes[..19].to_vec();
    long.extend([0xcc, 3, 0xcd, 1, 44]);
    assert_eq!(BlockAsk::decode(&long), None);
    for cut in 0..bytes.len() {
        assert_eq!(BlockAsk::decode(&bytes[..cut]), None);
    }
    assert_eq!(BlockAsk::decode(&[&bytes[..], &[0]].concat()), None);
}

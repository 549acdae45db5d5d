//! Arrays and files that are pulled, by and from cells of the reference.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use cellnet::pipe::download::{Downloads, Given, Offer, Outcome, PullError};
use cellnet_core::{
    cell::{Cell, HandlerError, Request},
    fobs::{self, Array, ArrayKind, Document, Object},
    message::{Message, Payload},
    wire::{Limits, keys::cn},
};
use serde_json::{Value as Json, json};
use sha2::{Digest, Sha256};

use crate::{
    process::Process,
    support::{
        PATIENCE, ask, code, dialling, end, fqcn, in_time, linked, listening, python_listening, url_of,
    },
};

/// Many small ones, some that share answers, and one of several chunks of a stream.
const SIZES: [usize; 9] = [0, 1, 3, 1000, 100_000, 110_000, 120_000, 400_000, 3_000_000];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arrays_of_the_reference_are_pulled() {
    let (_python, url) = python_listening("download_cell", &["--url", ANY_PORT, "--fqcn", "server"]).await;
    let site = dialling("site-1", &url).await;
    let downloads = Downloads::attach(&site);
    for dtype in ["float32", "float64", "int64"] {
        let order = object(&json!({"sizes": SIZES, "dtype": dtype}));
        let reply = ask(&site, "server", CHANNEL, "give", order).await;
        let model = in_time("a model", downloads.decode(CHANNEL, &reply)).await.expect("a model");
        for (number, size) in SIZES.into_iter().enumerate() {
            let found = model.get(&format!("a{number}")).and_then(Object::as_array).expect("an array");
            let values: Vec<f64> = found.to_vec().expect("numbers");
            assert_eq!(values, elements(number, size), "{dtype} {size}");
        }
    }
    end(&site).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reference_pulls_arrays_of_ours() {
    let server = listening("server").await;
    let downloads = Downloads::attach(&server);
    let _python = python_site(&server, "site-1", &[]).await;
    let model = model();
    let sent = downloads.encode(model.clone(), Offer::to(fqcn("site-1"))).expect("an offer");
    let reply = ask(&server, "site-1", CHANNEL, "take", sent.payload.clone()).await;
    assert_eq!(decoded(&reply.payload), seen(&model));
    let transaction = sent.transaction.expect("a transaction");
    assert_eq!(in_time("the end", transaction.done()).await, Outcome::Delivered);
    assert_eq!(transaction.received_by(&fqcn("site-1")).await, Given::All);
    // It is sent again with the same references, as after a lost acknowledgement. The reference pulls again, and finds
    // nothing left to pull.
    let again =
        server.request(&fqcn("site-1"), CHANNEL, "take", Message::new(sent.payload)).timeout(PATIENCE);
    assert!(again.await.is_err());
    assert_eq!(downloads.open_transactions(), 0);
    end(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_cells_of_the_reference_pull_from_one_transaction() {
    let server = listening("server").await;
    let downloads = Downloads::attach(&server);
    let sites = ["site-1", "site-2"];
    let (_one, _two) = (python_site(&server, sites[0], &[]).await, python_site(&server, sites[1], &[]).await);
    let model = model();
    let sent = downloads.encode(model.clone(), Offer::to_each(sites.map(fqcn))).expect("an offer");
    let transaction = sent.transaction.as_ref().expect("a transaction");
    let cells = sites.map(fqcn);
    let replies = server.broadcast(&cells, CHANNEL, "take", sent.message(), PATIENCE);
    for (site, reply) in in_time("both", replies).await {
        assert_eq!(decoded(&reply.expect("a reply").payload), seen(&model), "{site}");
        assert_eq!(in_time("a receiver", transaction.received_by(&site)).await, Given::All);
    }
    assert_eq!(in_time("the end", transaction.done()).await, Outcome::Delivered);
    end(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_of_the_reference_are_pulled() {
    let (mut python, url) = python_listening("download_cell", &["--url", ANY_PORT, "--fqcn", "server"]).await;
    let site = dialling("site-1", &url).await;
    let downloads = Downloads::attach(&site);
    let folder = folder("files-of-the-reference");
    for size in [0, 1, 5 << 20, 12_000_001] {
        let offered = order(&site, "server", "offer_file", &json!({"size": size})).await;
        let ref_id = offered["ref_id"].as_str().expect("an id").to_owned();
        let path = folder.join(size.to_string());
        let pulled = in_time("a file", downloads.pull_file(&fqcn("server"), ref_id).into_path(&path)).await;
        assert_eq!(pulled.expect("a file"), size);
        assert_eq!(digest(&std::fs::read(&path).expect("a file")), offered["sha256"], "{size}");
        assert_eq!(python.event(|event| event["what"] == "file_done").await["status"], "finished");
    }
    end(&site).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reference_pulls_files_of_ours() {
    let server = listening("server").await;
    let downloads = Downloads::attach(&server);
    let _python = python_site(&server, "site-1", &[]).await;
    let folder = folder("files-of-ours");
    for size in [0, 1, 5 << 20, 12_000_001] {
        let data: Vec<u8> = (0..size).map(|at| (at % 251) as u8).collect();
        let path = folder.join(size.to_string());
        std::fs::write(&path, &data).expect("a file");
        let offer = Offer::to(fqcn("site-1"));
        let (source, transaction) = downloads.offer_file(&path, offer).await.expect("an offer");
        let order = json!({"fqcn": "server", "ref_id": &*source.ref_id});
        let fetched = self::order(&server, "site-1", "fetch_file", &order).await;
        assert_eq!((&fetched["error"], &fetched["size"]), (&Json::Null, &json!(size)), "{fetched}");
        assert_eq!(fetched["sha256"], digest(&data));
        assert_eq!(in_time("the end", transaction.done()).await, Outcome::Delivered);
    }
    end(&server).await;
}

/// A job process of the reference passes on what it does not pull: site-1 → site-2 (Python) → server.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn references_pass_through_a_process_of_the_reference() {
    let server = listening("server").await;
    let at_server = Downloads::attach(&server);
    let trainer = dialling("site-1", &url_of(&server)).await;
    let at_trainer = Downloads::attach(&trainer);
    let _python = python_site(&server, "site-2", &[]).await;
    server.handle(CHANNEL, "take", move |request: Request| {
        let downloads = at_server.clone();
        async move {
            let pulled = downloads.decode(CHANNEL, &request.message).await;
            let pulled = pulled.map_err(|error| HandlerError::failed(error.to_string()))?;
            Ok::<_, HandlerError>(Message::new(object(&seen(&pulled))))
        }
    });
    let model = model();
    // Bound to the server: the process in the middle could not pull if it wanted to.
    let message = Object::from_iter([("to", Object::from("server")), ("model", model.clone())]);
    let sent = at_trainer.encode(message, Offer::to(fqcn("server"))).expect("an offer");
    let message = sent.message().with_header(cn::PASS_THROUGH, true);
    let reply = trainer.request(&fqcn("site-2"), CHANNEL, "forward", message).timeout(PATIENCE);
    let told = decoded(&reply.await.expect("a reply").payload);
    assert_eq!(told["code"], "ok", "{told}");
    assert!(told["saw"].as_array().expect("kinds").contains(&json!("LazyDownloadRef")), "{told}");
    assert_eq!(told["told"], seen(&model));
    let transaction = sent.transaction.expect("a transaction");
    assert_eq!(in_time("the end", transaction.done()).await, Outcome::Delivered);
    let receivers: Vec<_> = transaction.status().receivers.into_iter().map(|one| one.cell).collect();
    assert_eq!(receivers, [fqcn("server")]);
    end(&trainer).await;
    end(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_of_the_reference_that_dies_is_an_error_in_time() {
    let (mut python, url) =
        python_listening("download_cell", &["--url", ANY_PORT, "--fqcn", "server", "--slow", "0.2"]).await;
    let site = dialling("site-1", &url).await;
    let downloads = Downloads::attach(&site);
    let offered = order(&site, "server", "offer_file", &json!({"size": 10_000_000, "chunk": 100_000})).await;
    let ref_id = offered["ref_id"].as_str().expect("an id").to_owned();
    let path = folder("a-dead-owner").join("file");
    let (came, mut seen) = tokio::sync::mpsc::channel(1);
    let pull = downloads.pull_file(&fqcn("server"), ref_id).on_progress(move |_| {
        // Only the first matters.
        let _ = came.try_send(());
    });
    let pull = pull.configure(|config| config.progress = Duration::from_secs(5));
    let pulling = tokio::spawn(pull.into_path(path.clone()));
    in_time("the first piece", seen.recv()).await;
    python.kill();
    let failed = in_time("an error", pulling).await.expect("no panic").expect_err("the owner is dead");
    assert!(matches!(failed, PullError::OwnerGone { .. } | PullError::Stalled { .. }), "{failed:?}");
    assert!(!path.exists() && !path.with_file_name("file.part").exists());
    end(&site).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_of_ours_that_dies_is_an_error_at_the_reference() {
    let server = listening("server").await;
    let owner = dialling("site-2", &url_of(&server)).await;
    let downloads = Downloads::attach(&owner);
    let mut python = python_site(&server, "site-1", &[]).await;
    let path = folder("a-dead-owner-of-ours").join("file");
    std::fs::File::create(&path).and_then(|file| file.set_len(1 << 30)).expect("a file");
    let (source, mut transaction) =
        downloads.offer_file(&path, Offer::to(fqcn("site-1"))).await.expect("an offer");
    let fetch = json!({"fqcn": "site-2", "ref_id": &*source.ref_id, "timeout": 1.0});
    let fetching = server.request(&fqcn("site-1"), CHANNEL, "fetch_file", Message::new(object(&fetch)));
    let fetching = fetching.timeout(PATIENCE);
    let dies = async {
        while transaction.status().receivers.first().is_none_or(|one| one.bytes == 0) {
            transaction.changed().await;
        }
        owner.cancel();
        python.event(|event| event["what"] == "fetched" && !event["error"].is_null()).await
    };
    let (reply, _) = in_time("an error", async { tokio::join!(fetching.into_future(), dies) }).await;
    assert_eq!(code(&reply.expect("a reply")), "ok");
    assert_eq!(transaction.done().await, Outcome::Stopped);
    end(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_of_the_reference_is_refused() {
    let server = listening("server").await;
    let downloads = Downloads::attach(&server);
    let _python = python_site(&server, "site-1", &[]).await;
    let arrays = [("T0".into(), Array::from(vec![1.0_f64, 2.0]))];
    let offer = Offer::to(fqcn("site-2")).or_below(fqcn("site-3"));
    let (source, transaction) = downloads.offer(ArrayKind::Numpy, arrays, offer).expect("an offer");
    let raw = json!({"fqcn": "server", "ref_id": &*source.ref_id});
    let told = order(&server, "site-1", "raw", &raw).await;
    assert_eq!(told, json!({"code": "authentication_error", "status": null}));
    assert_eq!(transaction.status().receivers, []);
    let unknown = json!({"fqcn": "server", "ref_id": "another"});
    assert_eq!(order(&server, "site-1", "raw", &unknown).await["code"], "invalid_request");
    end(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_of_the_reference_goes_on_where_it_ended() {
    let (_python, url) = python_listening("download_cell", &["--url", ANY_PORT, "--fqcn", "server"]).await;
    let site = dialling("site-1", &url).await;
    let downloads = Downloads::attach(&site);
    let size = 9_000_000;
    let offered = order(&site, "server", "offer_file", &json!({"size": size})).await;
    let ref_id = offered["ref_id"].as_str().expect("an id").to_owned();
    let mut rest = Vec::new();
    let began = Arc::new(AtomicU64::new(0));
    let told = began.clone();
    let pull = downloads.pull_file(&fqcn("server"), ref_id).from(8_000_000);
    let pull = pull.on_progress(move |bytes| told.store(bytes, SeqCst));
    assert_eq!(in_time("the rest", pull.into_writer(&mut rest)).await.expect("the rest"), size);
    assert_eq!(began.load(SeqCst), size);
    let Payload::Bytes(all) = crate::payload::payload("bytes", size as usize, 3) else { panic!("bytes") };
    assert!(rest == all[8_000_000..]);
    end(&site).await;
}

async fn python_site(server: &Cell, name: &str, more: &[&str]) -> Process {
    let url = url_of(server);
    let mut args = vec!["--fqcn", name, "--root", &url];
    args.extend(more);
    let mut python = Process::python("download_cell", &args);
    python.ready().await;
    linked(server, name).await;
    python
}

async fn order(cell: &Cell, peer: &str, topic: &str, order: &Json) -> Json {
    decoded(&ask(cell, peer, CHANNEL, topic, object(order)).await.payload)
}

fn object(json: &Json) -> Payload {
    Payload::Fobs(fobs::to_bytes(json).expect("JSON is an object"))
}

fn decoded(payload: &Payload) -> Json {
    let Payload::Fobs(bytes) = payload else { panic!("no object: {payload:?}") };
    let object = fobs::decode(bytes, Limits::PAYLOAD).and_then(Document::into_object).expect("an object");
    serde_json::to_value(&object).expect("an object is JSON")
}

fn elements(number: usize, size: usize) -> Vec<f64> {
    (0..size).map(|at| ((at * 7 + number) % 251) as f64).collect()
}

/// Arrays of all sizes and some types.
fn model() -> Object {
    let arrays = SIZES.into_iter().enumerate().map(|(number, size)| {
        let elements = elements(number, size);
        let array = match number % 3 {
            0 => Array::from(elements),
            1 => Array::from(elements.into_iter().map(|x| x as f32).collect::<Vec<_>>()),
            _ => Array::from(elements.into_iter().map(|x| x as i64).collect::<Vec<_>>()),
        };
        (format!("a{number}"), Object::from(array))
    });
    arrays.collect()
}

/// What `take` says of a model.
fn seen(model: &Object) -> Json {
    let look = |array: &Array| {
        let dtype = match array.dtype() {
            fobs::DType::F64 => "float64",
            fobs::DType::F32 => "float32",
            _ => "int64",
        };
        json!({"dtype": dtype, "shape": array.shape(), "sha256": digest(array.data())})
    };
    let pairs = model.pairs().expect("a map").iter();
    pairs
        .map(|(name, array)| {
            (name.as_str().expect("a name").to_owned(), look(array.as_array().expect("an array")))
        })
        .collect()
}

fn digest(data: &[u8]) -> String {
    Sha256::digest(data).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// An empty folder of this test's own.
fn folder(name: &str) -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("downloads").join(name);
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("a folder");
    path
}

const CHANNEL: &str = "models";
const ANY_PORT: &str = "tcp://127.0.0.1:0";

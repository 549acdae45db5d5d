//! What `cellnet cp` promises to people and scripts.

use std::{
    fs,
    io::Write,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, SystemTime},
};

use serde_json::Value;

use crate::{
    content::Content,
    hub::Hub,
    network::{reaches, report},
    process::Process,
};

const MIB: u64 = 1 << 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_and_folders_go_there_and_come_back_with_their_times_and_modes() {
    let hub = Hub::start(&[]).await;
    let tree = hub.scratch.path("tree");
    fs::create_dir_all(tree.join("sub/empty")).unwrap();
    fs::write(tree.join("nothing"), "").unwrap();
    fs::write(tree.join("sub/run"), "#!/bin/sh\n").unwrap();
    fs::set_permissions(tree.join("sub/run"), fs::Permissions::from_mode(0o750)).unwrap();
    let content = Content { seed: 1, bytes: 3 * MIB + 5 };
    content.write(&tree.join("sub/large"));
    let holes = fs::File::create(tree.join("holes")).unwrap();
    holes.set_len(64 * MIB).unwrap();
    let then = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000);
    holes.set_modified(then).unwrap();

    let sent = hub.copied(&[text(&tree), "server:in/"]).await;
    assert_eq!(
        (&sent["files"], &sent["bytes"]),
        (&4.into(), &(64 * MIB + 3 * MIB + 5 + 10).into()),
        "{sent}"
    );
    assert!(hub.proxy.up() < 8 * MIB, "holes travelled: {} bytes", hub.proxy.up());
    let back = hub.scratch.arg("back");
    let got = hub.copied(&["server:in/tree", &back]).await;
    assert_eq!((&got["hash"], &got["bytes"]), (&sent["hash"], &sent["bytes"]), "{got}");

    assert_eq!(hub.scratch.names("back/tree"), hub.scratch.names("tree"));
    content.check(&hub.scratch.path("back/tree/sub/large"));
    let metadata = |name| fs::metadata(hub.scratch.path(name)).unwrap();
    assert_eq!(metadata("inbox").permissions().mode() & 0o777, 0o700);
    assert_eq!(metadata("back/tree/sub/run").permissions().mode() & 0o777, 0o750);
    assert_eq!(metadata("back/tree/holes").modified().unwrap(), then);
    assert!(std::os::unix::fs::MetadataExt::blocks(&metadata("back/tree/holes")) < 2048, "holes were filled");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn standard_input_and_output_are_ends_as_any() {
    let hub = Hub::start(&[]).await;
    let content = Content { seed: 1, bytes: 5 * MIB + 1 };
    content.write(&hub.scratch.path("file"));
    let bytes = fs::read(hub.scratch.path("file")).unwrap();
    for input in [&bytes[..], b""] {
        let said = piped(&["cp", "-", "server:piped", "--overwrite", "--root", hub.url()], input);
        assert!(said.status.success(), "{said:?}");
        assert_eq!(fs::read(hub.scratch.path("inbox/piped")).unwrap(), input);
        for json in [&[][..], &["--json"]] {
            let said = piped(&[&["cp", "server:piped", "-", "--root", hub.url()], json].concat(), b"");
            let (status, came) = (said.status, said.stdout);
            let said = String::from_utf8(said.stderr).unwrap();
            assert!(
                status.success() && came == input,
                "{status}, {} of {} bytes: {said}",
                came.len(),
                input.len()
            );
            let report = said.lines().last().map(serde_json::from_str::<Value>);
            assert_eq!(report.map(Result::unwrap).is_some(), !json.is_empty(), "{said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn people_get_one_sentence_and_scripts_one_flat_object_after_events() {
    let hub = Hub::start(&[]).await;
    let file = hub.scratch.path("file");
    let hash = Content { seed: 1, bytes: 3 * MIB }.write(&file);
    let said = piped(&["cp", text(&file), "server:", "--root", hub.url()], b"");
    let stdout = String::from_utf8(said.stdout).unwrap();
    // Bars are for terminals.
    assert_eq!((said.status.code(), said.stderr.as_slice()), (Some(0), &b""[..]));
    assert!(stdout.starts_with("1 file, 3.00 MiB, in ") && stdout.trim_end().ends_with(&hash), "{stdout}");

    let said = piped(&["cp", text(&file), "server:other", "--json", "--root", hub.url()], b"");
    let stdout = String::from_utf8(said.stdout).unwrap();
    let lines: Vec<Value> = stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let (done, events) = lines.split_last().unwrap();
    let names: Vec<_> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    assert_eq!((names.first(), names.last()), (Some(&"begin"), Some(&"end")), "{stdout}");
    let done = done.as_object().unwrap();
    assert!(done.values().all(|value| !value.is_object()), "{done:?}");
    for name in ["name", "peer", "via", "seconds", "MBps", "cpu_s", "rss_mb", "peak_mb"] {
        assert!(done.contains_key(name), "{name} is missing in {done:?}");
    }
    let expected = serde_json::json!({
        "return_code": "ok", "reason": null, "error": null, "files": 1, "bytes": 3 * MIB, "resumed_bytes": 0,
        "moved_bytes": 3 * MIB, "hash": hash,
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(&done[name], value, "{name} in {done:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_to_several_cells_tells_of_each_and_fails_if_one_does() {
    let hub = Hub::start(&[]).await;
    let inbox = hub.scratch.arg("site");
    let mut site = Process::cellnet(&["serve", "--name", "site-1", "--root", hub.url(), "--inbox", &inbox]);
    site.ready().await;
    let file = hub.scratch.path("file");
    let content = Content { seed: 1, bytes: 2 * MIB };
    content.write(&file);
    let done = hub.copied(&[text(&file), "server,site-1:in/"]).await;
    assert_eq!(
        (&done["peer"], &done["files"], &done["bytes"]),
        (&"server,site-1".into(), &2.into(), &(4 * MIB).into())
    );
    content.check(&hub.scratch.path("inbox/in/file"));
    content.check(&hub.scratch.path("site/in/file"));

    fs::remove_file(hub.scratch.path("site/in/file")).unwrap();
    let copy = hub.copy(&[text(&file), "server,site-1:in/"]);
    let done = hub.fails(copy, 1, "exists").await;
    assert_eq!(done["files"], 1, "{done}");
    content.check(&hub.scratch.path("site/in/file"));
    assert!(site.stop().await.success());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_there_or_takes_nothing_has_a_status_of_its_own() {
    let hub = Hub::start(&[]).await;
    let mut site = Process::cellnet(&["serve", "--name", "site-1", "--root", hub.url(), "--echo", "task"]);
    site.ready().await;
    let file = hub.scratch.path("file");
    fs::write(&file, "x").unwrap();
    let copy = hub.copy(&[text(&file), "site-9:", "--timeout", "1s"]);
    let done = hub.fails(copy, 4, "unreachable").await;
    assert_eq!(done["return_code"], "target_unreachable");
    let copy = hub.copy(&[text(&file), "site-1:"]);
    let done = hub.fails(copy, 8, "no_inbox").await;
    assert!(done["error"].as_str().unwrap().contains("--inbox"), "{done}");
    let fetch = hub.copy(&["server:no/such", text(&hub.scratch.path("back"))]);
    hub.fails(fetch, 1, "not_found").await;
    let nobody =
        piped(&["cp", text(&file), "server:", "--root", "tcp://127.0.0.1:1", "--timeout", "200ms"], b"");
    assert_eq!(nobody.status.code(), Some(4), "{nobody:?}");
    let nothing = piped(&["cp", "no/such", "server:", "--root", hub.url()], b"");
    let said = String::from_utf8(nothing.stderr).unwrap();
    assert!(nothing.status.code() == Some(2) && said.contains("'no/such'"), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_was_stopped_goes_on_when_it_is_run_again() {
    let (hub, content, hash, mut copy) = in_the_middle().await;
    assert_eq!(copy.stop().await.code(), Some(1));
    let done = report(&mut copy).await;
    assert!(done["error"].as_str().unwrap().contains("again"), "{done}");
    let there = hub.scratch.names("inbox");
    assert!(there.iter().any(|name| name.ends_with("file.cellnet-partial")), "{there:?}");
    assert!(!there.contains(&"file".to_owned()));
    hub.proxy.limit_up(0);
    let done = hub.copied(&[text(&hub.scratch.path("file")), "server:"]).await;
    let resumed = done["resumed_bytes"].as_u64().unwrap();
    assert!(resumed >= 24 * MIB, "{done}");
    assert_eq!(done["moved_bytes"].as_u64().unwrap() + resumed, content.bytes, "{done}");
    is_whole(&hub, content, &hash, &done);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_is_stopped_and_started_again_is_waited_for() {
    let (mut hub, content, hash, mut copy) = in_the_middle().await;
    hub.replace_server().await;
    hub.proxy.limit_up(0);
    let done = report(&mut copy).await;
    assert!(copy.exit().await.success(), "{done}, {}", copy.stderr());
    is_whole(&hub, content, &hash, &done);
}

/// A copy of which a part is there.
async fn in_the_middle() -> (Hub, Content, String, Process) {
    let hub = Hub::start(&[]).await;
    let content = Content { seed: 1, bytes: 64 * MIB };
    let hash = content.write(&hub.scratch.path("file"));
    hub.proxy.limit_up(32 * MIB);
    let mut copy = hub.copy(&[text(&hub.scratch.path("file")), "server:"]);
    reaches(&mut copy, 24 * MIB).await;
    (hub, content, hash, copy)
}

/// All is there, and what was there before did not travel again.
fn is_whole(hub: &Hub, content: Content, hash: &str, done: &Value) {
    assert_eq!(done["hash"], hash, "{done}");
    let travelled = hub.proxy.up();
    assert!(travelled < content.bytes / 10 * 11, "{travelled} bytes travelled");
    content.check(&hub.scratch.path("inbox/file"));
    assert_eq!(hub.scratch.names("inbox"), ["file"]);
}

/// Runs the program to its end.
fn piped(args: &[&str], input: &[u8]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cellnet"));
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // Who does not read it all says why.
        scope.spawn(move || drop(stdin.write_all(input)));
        child.wait_with_output().unwrap()
    })
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

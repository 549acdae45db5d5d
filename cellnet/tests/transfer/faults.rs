//! Copies that cannot go well: both ends say why, and nothing that is not whole gets its name.

use std::{fs, path::Path};

use crate::{
    content::Content,
    hub::Hub,
    network::{reaches, report},
    proxy::Damage,
    scratch::Scratch,
};

const MIB: u64 = 1 << 20;

/// Slow enough for a test to do something while a copy runs.
const SLOW: u64 = 8 * MIB;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_in_the_middle_is_told_at_both_ends() {
    let scratch = Scratch::new();
    let inbox = scratch.arg("inbox");
    // To a process that may write so much to a file and no more, its disk looks like a full one.
    let line = "trap '' XFSZ; ulimit -f 8192; exec \"$0\" \"$@\"";
    let mut hub = Hub::in_shell(scratch, line, &["--inbox", &inbox]).await;
    let file = hub.scratch.path("file");
    Content { seed: 1, bytes: 32 * MIB }.write(&file);
    let copy = hub.copy(&[text(&file), "server:"]);
    let done = hub.fails(copy, 8, "disk_full").await;
    assert!(hub.proxy.up() > 2 * MIB, "only {} bytes travelled", hub.proxy.up());
    assert!(done["error"].as_str().unwrap().contains("'server'"), "{done}");
    let arrived = hub.arrived().await;
    assert_eq!(arrived["reason"], "disk_full", "{arrived}");
    assert!(!hub.scratch.path("inbox/file").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_more_than_the_quota_is_refused_before_it_travels() {
    let hub = Hub::start(&["--inbox-quota", "4MiB"]).await;
    let file = hub.scratch.path("file");
    Content { seed: 1, bytes: 8 * MIB }.write(&file);
    let copy = hub.copy(&[text(&file), "server:"]);
    let done = hub.fails(copy, 8, "quota").await;
    assert_eq!(done["return_code"], "service_unavailable");
    assert!(hub.proxy.up() < MIB, "{} bytes travelled", hub.proxy.up());
    assert_eq!(hub.scratch.names("inbox"), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_inbox_that_cannot_be_written_is_told_at_both_ends() {
    // No user may make files there, not even root.
    let flags = ["--inbox", "/sys/power"];
    let mut hub = Hub::in_shell(Scratch::new(), "exec \"$0\" \"$@\"", &flags).await;
    let file = hub.scratch.path("file");
    // A byte would not fit: such a file system has no room either.
    fs::write(&file, "").unwrap();
    let copy = hub.copy(&[text(&file), "server:"]);
    hub.fails(copy, 5, "permission_denied").await;
    assert_eq!(hub.arrived().await["reason"], "permission_denied");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_source_that_shrinks_or_changes_is_told_at_both_ends() {
    for change in ["shrink", "touch"] {
        let mut hub = Hub::start(&[]).await;
        let file = hub.scratch.path("file");
        Content { seed: 1, bytes: 32 * MIB }.write(&file);
        hub.proxy.limit_up(SLOW);
        let mut copy = hub.copy(&[text(&file), "server:"]);
        reaches(&mut copy, MIB).await;
        let opened = fs::OpenOptions::new().write(true).open(&file).unwrap();
        match change {
            "shrink" => opened.set_len(2 * MIB).unwrap(),
            _ => opened.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap(),
        }
        hub.proxy.limit_up(0);
        hub.fails(copy, 9, "source_changed").await;
        assert_eq!(hub.arrived().await["reason"], "source_changed", "{change}");
        assert!(!hub.scratch.path("inbox/file").exists(), "{change}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_path_outside_the_inbox_is_refused() {
    let hub = Hub::start(&[]).await;
    let file = hub.scratch.path("file");
    fs::write(&file, "x").unwrap();
    let elsewhere = hub.scratch.path("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    std::os::unix::fs::symlink(&elsewhere, hub.scratch.path("inbox/link")).unwrap();
    for path in ["../outside", "a/../../outside", "/outside", "link/outside", "link/"] {
        let copy = hub.copy(&[text(&file), &format!("server:{path}")]);
        hub.fails(copy, 5, "outside_inbox").await;
    }
    assert_eq!((hub.scratch.names("elsewhere"), hub.scratch.names("inbox")), (vec![], vec!["link".into()]));
    assert_eq!(hub.scratch.names(""), ["elsewhere", "file", "inbox", "inbox/link"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_second_writer_of_a_file_is_refused_and_the_first_not_disturbed() {
    let mut hub = Hub::start(&[]).await;
    let (first, second) = (hub.scratch.path("first"), hub.scratch.path("second"));
    let content = Content { seed: 1, bytes: 16 * MIB };
    let hash = content.write(&first);
    Content { seed: 2, bytes: 16 * MIB }.write(&second);
    // Until the second one has had its answer.
    hub.proxy.limit_up(MIB);
    let mut copy = hub.copy(&[text(&first), "server:file"]);
    reaches(&mut copy, MIB).await;
    // It must not be over before the second one is answered.
    hub.proxy.limit_up(MIB / 2);
    let other = hub.copy(&[text(&second), "server:file"]);
    hub.fails(other, 8, "busy").await;
    hub.proxy.limit_up(0);
    let done = report(&mut copy).await;
    assert_eq!((&done["hash"], &done["error"]), (&hash.into(), &serde_json::Value::Null), "{done}");
    content.check(&hub.scratch.path("inbox/file"));
    while hub.arrived().await["hash"] != done["hash"] {}

    // Once it is there, it is only replaced if that is asked for.
    let other = hub.copy(&[text(&second), "server:file"]);
    hub.fails(other, 1, "exists").await;
    content.check(&hub.scratch.path("inbox/file"));
    hub.copied(&[text(&second), "server:file", "--overwrite"]).await;
    Content { seed: 2, ..content }.check(&hub.scratch.path("inbox/file"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_is_damaged_on_the_way_is_asked_for_again() {
    let mut hub = Hub::start(&[]).await;
    let file = hub.scratch.path("file");
    let content = Content { seed: 1, bytes: 8 * MIB };
    let hash = content.write(&file);
    hub.proxy.damage_up(Damage { after: content.word(5 * MIB + 4096), always: false });
    let done = hub.copied(&[text(&file), "server:"]).await;
    assert!(!hub.proxy.is_armed(), "nothing was damaged");
    assert_eq!((&done["hash"], &hub.arrived().await["hash"]), (&hash.clone().into(), &hash.into()));
    content.check(&hub.scratch.path("inbox/file"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_that_is_always_damaged_is_told_at_both_ends() {
    let mut hub = Hub::start(&[]).await;
    let file = hub.scratch.path("file");
    let content = Content { seed: 1, bytes: 8 * MIB };
    content.write(&file);
    hub.proxy.damage_up(Damage { after: content.word(5 * MIB + 4096), always: true });
    let copy = hub.copy(&[text(&file), "server:"]);
    hub.fails(copy, 9, "corrupt").await;
    assert_eq!(hub.arrived().await["reason"], "corrupt");
    assert!(!hub.scratch.path("inbox/file").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_file_that_holds_more_than_its_size_says_is_no_good_source() {
    let hub = Hub::start(&[]).await;
    // The system says that it has no bytes, and gives some.
    let copy = hub.copy(&["/proc/version", "server:"]);
    hub.fails(copy, 9, "source_changed").await;
    assert!(!hub.scratch.path("inbox/version").exists());
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path that is text")
}

//! What `cellnet bench` promises to scripts: every workload runs, over every transport and through a relay, and its
//! figures agree with one another. None of them is compared with a clock.

mod program;

use cellnet_core::testkit::pki::Pki;
use program::{Serving, cellnet, command, finish};
use serde_json::{Value, json};

#[tokio::test]
async fn requests_and_blobs_are_counted_alike_on_both_sides() {
    let server = bench("tcp://127.0.0.1:0", &[]).await;
    for (workload, size) in [("rr", "64"), ("srr", "64"), ("srr", "3MiB"), ("blob", "3MiB")] {
        let json = measured_by(&server, workload, &["--size", size, "--inflight", "4"]).await;
        sound(&json, workload);
        assert!(
            json["MBps"].as_f64().unwrap() > 0.0 && json["p999_us"].as_f64() >= json["p50_us"].as_f64(),
            "{json}"
        );
        assert_eq!((&json["inflight"], &json["connections"]), (&4.into(), &1.into()));
        assert_eq!(json["size"], if size == "64" { 64 } else { 3 << 20 });
        assert_eq!(json["chunk"].is_null(), workload == "rr", "{json}");
    }
}

#[tokio::test]
async fn what_nobody_answers_is_counted_where_it_arrives() {
    let server = bench("tcp://127.0.0.1:0", &[]).await;
    let json = measured_by(&server, "push", &["--connections", "2"]).await;
    sound(&json, "push");
    assert_eq!(json["p50_us"], Value::Null);
}

#[tokio::test]
async fn pipes_meet_at_the_serving_cell() {
    let server = bench("tcp://127.0.0.1:0", &[]).await;
    let json = measured_by(&server, "pipe", &["--connections", "2", "--inflight", "8"]).await;
    sound(&json, "pipe");
}

#[tokio::test]
async fn many_clients_call_and_are_called() {
    let server = bench("tcp://127.0.0.1:0", &[]).await;
    let json = measured_by(&server, "rr", &["--connections", "100"]).await;
    sound(&json, "rr");
    assert!(json["messages"].as_u64() >= Some(100), "{json}");

    let json =
        measured_by(&server, "fan", &["--connections", "20", "--size", "100KiB", "--inflight", "2"]).await;
    sound(&json, "fan");
    assert_eq!(json["messages"].as_u64().unwrap() % 20, 0, "{json}");

    let json = measured_by(&server, "churn", &["--connections", "2"]).await;
    sound(&json, "churn");
    assert_eq!((&json["size"], &json["MBps"]), (&0.into(), &0.0.into()));
    assert_eq!(
        (&json["rss_per_connection_kb"], &json["serve_rss_per_connection_kb"]),
        (&Value::Null, &Value::Null)
    );
}

#[tokio::test]
async fn connections_that_are_only_held_are_counted_while_they_live() {
    let server = bench("tcp://127.0.0.1:0", &[]).await;
    let json = measured_by(&server, "idle", &["--connections", "150"]).await;
    sound(&json, "idle");
    assert_eq!((&json["messages"], &json["p50_us"], &json["size"]), (&150.into(), &Value::Null, &0.into()));
    if cfg!(target_os = "linux") {
        for name in ["rss_per_connection_kb", "serve_rss_per_connection_kb"] {
            // It may be less than nothing: a system that is short of memory takes some away.
            assert!(json[name].as_f64().is_some_and(f64::is_finite), "{name} in {json}");
        }
    }
}

#[tokio::test]
async fn other_transports_say_what_they_are() {
    let pki = Pki::new();
    let (kit, own) = (pki.kit("server"), pki.kit("site-1"));
    let listen = "quic://127.0.0.1:0?tls=tls,ws://127.0.0.1:0,stcp://127.0.0.1:0";
    let server = bench(listen, &["--credentials", kit.to_str().unwrap()]).await;
    let own = ["--credentials", own.to_str().unwrap()];
    let urls = server.ready["listen"].as_array().unwrap().clone();
    for (url, transport, tls, workload) in [
        (&urls[0], "quic", "tls", "pipe"),
        (&urls[0], "quic", "tls", "blob"),
        (&urls[1], "ws", "clear", "pipe"),
        (&urls[1], "ws", "clear", "push"),
        (&urls[2], "stcp", "mtls", "srr"),
    ] {
        let url = url.as_str().unwrap();
        let secure: &[&str] = if tls == "clear" { &[] } else { &own };
        let json = measured(workload, &[&["--connect", url], secure].concat()).await;
        sound(&json, workload);
        assert_eq!((&json["transport"], &json["tls"]), (&transport.into(), &tls.into()), "{json}");
        assert_eq!(json["via"], json!([url]));
        assert!(json["features"].is_array(), "{json}");
    }
}

#[tokio::test]
async fn a_relay_may_be_on_the_way() {
    let server = bench("tcp://127.0.0.1:0", &[]).await;
    let relay = ["serve", "--name", "relay-1", "--listen", "tcp://127.0.0.1:0", "--root", &server.url()];
    let relay = Serving::start(&relay).await;
    let via = format!("relay-1@{}", relay.url());
    for workload in ["rr", "srr", "push", "blob", "fan", "churn"] {
        let json = measured(workload, &["--via", &via, "--connections", "2", "--size", "70KiB"]).await;
        sound(&json, workload);
        assert!(json["name"].as_str().unwrap().starts_with("relay-1._cli_"), "{json}");
        assert_eq!((&json["peer"], &json["via"]), (&"server".into(), &json!([relay.url()])));
    }

    // Both ends of a pipe attach to the same cell, so its other end has to know the relay, too.
    let pipe = ["bench", "run", "--via", &via, "--workload", "pipe", "--seconds", "200ms", "--warmup", "0"];
    let refused = cellnet(&pipe).await;
    assert!(refused.status == 1 && refused.stderr.contains("'relay-1'"), "{}", refused.stderr);
    let below =
        Serving::start(&["bench", "serve", "--name", "relay-1.bench", "--parent", &relay.url()]).await;
    assert_eq!((&below.ready["name"], &below.ready["listen"]), (&"relay-1.bench".into(), &json!([])));
    let json = measured("pipe", &["--via", &via, "--to", "relay-1.bench", "--inflight", "8"]).await;
    sound(&json, "pipe");
    assert_eq!(json["peer"], "relay-1.bench");
}

#[tokio::test]
async fn people_get_a_table() {
    let server = bench("tcp://127.0.0.1:0", &[]).await;
    let run = [
        "bench",
        "run",
        "--connect",
        &server.url(),
        "--workload",
        "rr",
        "--seconds",
        "200ms",
        "--warmup",
        "0",
    ];
    let ended = cellnet(&run).await;
    assert_eq!((ended.status, ended.stderr.as_str()), (0, ""));
    for name in ["workload ", "rate ", "p99.9 ", "serve "] {
        assert!(ended.stdout.lines().any(|line| line.starts_with(name)), "{name}: {}", ended.stdout);
    }
    for signal in ["TERM", "INT"] {
        let server = bench("tcp://127.0.0.1:0", &[]).await;
        assert_eq!(server.stop(signal).await, Some(0), "{signal}");
    }
}

#[tokio::test]
async fn two_runs_do_not_disturb_each_other() {
    let server = bench("tcp://127.0.0.1:0", &[]).await;
    let url = server.url();
    let run = |seconds: &'static str, patience: &'static str| {
        let args = ["bench", "run", "--connect", &url, "--workload", "rr", "--warmup", "0", "--json"];
        command(&[&args[..], &["--seconds", seconds, "--timeout", patience]].concat())
    };
    let mut first = run("600s", "5s").spawn().unwrap();
    // The first one has its turn once the second is refused; before that it may be the other way round.
    loop {
        let second = finish(run("1ms", "300ms").spawn().unwrap(), b"").await;
        if second.status == 8 {
            assert_eq!(second.json()["return_code"], "service_unavailable");
            break;
        }
        assert_eq!(second.status, 0, "{}", second.stderr);
    }
    first.kill().await.unwrap();
}

#[tokio::test]
async fn a_peer_that_goes_away_has_a_status_of_its_own_and_what_was_counted_is_told() {
    let server = bench("tcp://127.0.0.1:0", &[]).await;
    let url = server.url();
    let run = [
        "bench",
        "run",
        "--connect",
        &url,
        "--workload",
        "rr",
        "--warmup",
        "0",
        "--seconds",
        "600s",
        "--json",
    ];
    let run = tokio::spawn(finish(command(&run).spawn().unwrap(), b""));
    // Once it is refused to others, the run is under way.
    loop {
        let other =
            ["bench", "run", "--connect", &url, "--workload", "rr", "--warmup", "0", "--seconds", "1ms"];
        let other = cellnet(&[&other[..], &["--timeout", "300ms"]].concat()).await;
        if other.status == 8 {
            break;
        }
        assert_eq!(other.status, 0, "{}", other.stderr);
    }
    let mut child = server.child;
    child.kill().await.unwrap();
    let ended = run.await.unwrap();
    assert_eq!(ended.status, 7, "{}", ended.stderr);
    let json = ended.json();
    assert!(json["errors"].as_u64() >= Some(1) && json["error"].is_string(), "{json}");
    assert_eq!(json["serve_cpu_s"], Value::Null);
}

#[tokio::test]
async fn what_cannot_be_measured_is_said_in_one_line_with_its_status() {
    let server = Serving::start(&["serve", "--name", "server", "--listen", "tcp://127.0.0.1:0"]).await;
    let url = server.url();
    let rr = ["bench", "run", "--workload", "rr", "--timeout", "300ms"];
    let to = ["--connect", &url];
    let wrong = format!("relay-2@{url}");
    let table: [(&[&str], &[&str], i32, &str); 14] = [
        (&["bench"], &[], 2, "serve"),
        (&["bench", "fly"], &[], 2, "'fly'"),
        (&["bench", "serve"], &[], 2, "--listen"),
        (&["bench", "serve", "--name", "site-1"], &[], 2, "'site-1'"),
        (&["bench", "serve", "--root", &url], &[], 2, "'server'"),
        (&["bench", "run", "--workload", "fly"], &to, 2, "'fly'"),
        (&["bench", "run"], &to, 2, "--workload"),
        (&rr, &[], 2, "--connect"),
        (&rr, &["--connect", &url, "--inflight", "0"], 2, "'0'"),
        (&rr, &["--connect", &url, "--connections", "28001"], 2, "28001"),
        (&rr, &["--connect", &url, "--size", "2GiB"], 2, "--size"),
        (&rr, &["--connect", "tcp://127.0.0.1:1"], 4, "'tcp://127.0.0.1:1'"),
        (&rr, &["--via", &wrong], 4, "'relay-2'"),
        (&rr, &to, 1, "bench serve"),
    ];
    for (first, rest, status, named) in table {
        let args = [first, rest].concat();
        let ended = cellnet(&args).await;
        assert_eq!(ended.status, status, "{args:?}: {}", ended.stderr);
        let one_line = ended.stderr.ends_with('\n') && ended.stderr.lines().count() == 1;
        assert!(one_line && ended.stderr.contains(named), "{args:?}: {}", ended.stderr);
    }
}

/// What holds of every run that went well.
fn sound(json: &Value, workload: &str) {
    assert_eq!((&json["workload"], &json["return_code"]), (&workload.into(), &"ok".into()), "{json}");
    assert_eq!(
        (&json["error"], &json["errors"], &json["lost"]),
        (&Value::Null, &0.into(), &0.into()),
        "{json}"
    );
    assert!(json["messages"].as_u64() > Some(0), "{json}");
    assert_eq!(json["sent"], json["messages"], "{json}");
    let number = |name: &str| json[name].as_f64().unwrap_or_else(|| panic!("{name} in {json}"));
    // One message less than were counted if the clock began with the first.
    let counted = number("msgs_s") * number("seconds");
    assert!((counted - number("messages")).abs() < 1.5, "{json}");
    assert!(
        (number("MBps") * 1e6 - number("msgs_s") * number("size")).abs() <= number("MBps") * 10.0,
        "{json}"
    );
    for name in [
        "name",
        "peer",
        "via",
        "transport",
        "tls",
        "features",
        "size",
        "inflight",
        "connections",
        "chunk",
        "window",
        "p50_us",
        "p99_us",
        "p999_us",
        "cpu_s_per_gb",
        "serve_cpu_s_per_gb",
    ] {
        assert!(json.get(name).is_some(), "{name} in {json}");
    }
    if cfg!(target_os = "linux") {
        for side in ["", "serve_"] {
            assert!(number(&format!("{side}rss_mb")) > 1.0, "{json}");
            let (cpu_s, million) =
                (number(&format!("{side}cpu_s")), number(&format!("{side}cpu_s_per_million")));
            assert!((million * number("messages") / 1e6 - cpu_s).abs() < 1e-6, "{json}");
        }
    }
}

async fn bench(listen: &str, more: &[&str]) -> Serving {
    Serving::start(&[&["bench", "serve", "--listen", listen], more].concat()).await
}

async fn measured_by(server: &Serving, workload: &str, args: &[&str]) -> Value {
    measured(workload, &[&["--connect", &server.url()], args].concat()).await
}

async fn measured(workload: &str, args: &[&str]) -> Value {
    let run = ["bench", "run", "--workload", workload, "--seconds", "300ms", "--warmup", "100ms", "--json"];
    let ended = cellnet(&[&run[..], &["--timeout", "60s"], args].concat()).await;
    assert_eq!(ended.status, 0, "{workload} {args:?}: {}{}", ended.stdout, ended.stderr);
    ended.json()
}

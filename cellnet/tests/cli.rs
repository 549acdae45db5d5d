//! What the program `cellnet` promises to people and scripts.

mod program;

use std::{fs, path::PathBuf};

use cellnet_core::testkit::pki::Pki;
use program::{DEADLINE, Serving, cellnet, cellnet_with, command, finish, send_signal, signal};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    time::timeout,
};

#[tokio::test]
async fn help_and_version_go_to_standard_output() {
    for args in [&["--help"][..], &["help"], &["serve", "--help"], &["call", "-h"], &["pipe", "--help"]] {
        let ended = cellnet(args).await;
        assert_eq!(ended.status, 0, "{args:?}");
        assert!(ended.stdout.contains("Usage: cellnet"), "{args:?}: {}", ended.stdout);
    }
    assert_eq!(cellnet(&["--version"]).await.stdout.trim(), concat!("cellnet ", env!("CARGO_PKG_VERSION")));
}

#[tokio::test]
async fn bad_input_gives_one_line_with_the_value_and_its_status() {
    let call = ["call", "server", "task", "echo", "hi"];
    let serve = ["serve", "--listen", "tcp://127.0.0.1:0"];
    let pipe = ["pipe", "--mode", "active", "--site", "s", "--token", "t", "--channel", "task"];
    let table: [(&[&str], &[&str], i32, &str); 18] = [
        (&[], &[], 2, "no command"),
        (&["fly"], &[], 2, "'fly'"),
        (&call, &["--root", "foo://127.0.0.1:1"], 2, "'foo'"),
        (&call, &["--root", "127.0.0.1:1"], 2, "'127.0.0.1:1'"),
        (&call, &["--root", "tcp://127.0.0.1:1", "--name", "a..b"], 2, "'a..b'"),
        (&call, &["--root", "tcp://127.0.0.1:1", "--timeout", "0s"], 2, "'0s'"),
        (&call, &[], 2, "--root"),
        (&["call", "server", "task", "echo", "@no/such"], &["--root", "tcp://127.0.0.1:1"], 2, "'no/such'"),
        (&call, &["--root", "tcp://127.0.0.1:1", "--timeout", "200ms"], 4, "'tcp://127.0.0.1:1'"),
        (&call, &["--config", "no/such.toml"], 3, "'no/such.toml'"),
        (&serve, &[], 2, "--name"),
        (&serve, &["--name", "server", "--root", "tcp://127.0.0.1:1"], 2, "'tcp://127.0.0.1:1'"),
        (&serve, &["--name", "site-1"], 2, "'site-1'"),
        (&["serve", "--name", "server"], &["--listen", "tcp://127.0.0.1"], 2, "'tcp://127.0.0.1'"),
        (&pipe, &["--echo"], 2, "--root URL"),
        (&pipe, &["--root", "tcp://127.0.0.1:1", "--send", "1", "--topic", "a b"], 2, "'a b'"),
        (&pipe, &["--root", "tcp://127.0.0.1:1", "--send", "1", "--topic", "_END_"], 2, "'_END_'"),
        (
            &pipe,
            &["--root", "tcp://127.0.0.1:1", "--send", "1", "--timeout", "200ms"],
            4,
            "'tcp://127.0.0.1:1'",
        ),
    ];
    for (first, rest, status, named) in table {
        let args = [first, rest].concat();
        let ended = cellnet(&args).await;
        assert_eq!(ended.status, status, "{args:?}: {}", ended.stderr);
        assert_eq!(ended.stdout, "", "{args:?}");
        let one_line = ended.stderr.ends_with('\n') && ended.stderr.lines().count() == 1;
        assert!(one_line && ended.stderr.contains(named), "{args:?}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let server = Serving::start(&["serve", "--name", "server", "--listen", "tcp://127.0.0.1:0"]).await;
    let ended = cellnet(&["serve", "--name", "server", "--listen", &server.url()]).await;
    assert_eq!(ended.status, 1);
    assert!(ended.stderr.contains(&server.url()) && ended.stderr.contains("in use"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_signal_ends_what_runs_until_stopped_with_status_0() {
    for signal in ["TERM", "INT"] {
        let server = Serving::start(&["serve", "--name", "server", "--listen", "tcp://127.0.0.1:0"]).await;
        assert_eq!(server.ready["name"], "server");
        assert_eq!(server.stop(signal).await, Some(0), "{signal}");
    }
}

#[tokio::test]
async fn a_site_that_finds_nobody_above_waits_and_still_obeys() {
    let mut child = command(&["serve", "--name", "site-1", "--root", "tcp://127.0.0.1:1"]).spawn().unwrap();
    let mut logs = BufReader::new(child.stderr.take().unwrap()).lines();
    // The first complaint shows that it dials.
    let line = timeout(DEADLINE, logs.next_line()).await.unwrap().unwrap().unwrap();
    assert!(line.contains("cannot connect") && line.contains("tcp://127.0.0.1:1"), "{line}");
    assert_eq!(signal(child, "TERM").await, Some(0));
}

#[tokio::test]
async fn what_is_asked_comes_back_plain_and_streamed() {
    let server = echo_server().await;
    for channel in ["task", "model"] {
        let args = ["call", "server", channel, "any-topic"];
        let root = ["--root", &server.url()];
        let said = cellnet(&[&args[..], &["hi"], &root].concat()).await;
        assert_eq!((said.status, said.stdout.as_str(), said.stderr.as_str()), (0, "hi", ""));

        let payload: Vec<u8> = (0..300_000_u32).map(|at| (at.wrapping_mul(at) >> 3) as u8).collect();
        let file = Scratch::new(&payload);
        let said = cellnet(&[&args[..], &[&file.at_sign()], &root].concat()).await;
        assert!(said.status == 0 && said.raw == payload, "{}", said.stderr);

        let said = cellnet_with(&[&args[..], &["-"], &root].concat(), b"from a pipe\n").await;
        assert_eq!((said.status, said.stdout.as_str()), (0, "from a pipe\n"));

        let said = cellnet(&[&args[..], &root, &["--json"]].concat()).await;
        assert_eq!((said.status, &said.json()["payload"]), (0, &Value::Null));
    }
}

#[tokio::test]
async fn json_has_the_names_that_scripts_rely_on() {
    let server = echo_server().await;
    let call = ["call", "server", "task", "t", "hi", "--json", "--root", &server.url()];
    let json = cellnet(&call).await.json();
    assert_eq!((&json["return_code"], &json["error"]), (&"ok".into(), &Value::Null));
    assert_eq!(
        (&json["payload"], &json["bytes"], &json["peer"]),
        (&"hi".into(), &2.into(), &"server".into())
    );
    assert!(json["name"].as_str().unwrap().starts_with("_cli_"));

    let many = cellnet(&[&call[..], &["--count", "50", "--inflight", "8"]].concat()).await;
    assert_eq!(many.status, 0, "{}", many.stderr);
    for name in ["msgs_s", "MBps", "p50_us", "p99_us", "p999_us"] {
        assert!(many.json()[name].as_f64().unwrap() > 0.0, "{name}: {}", many.stdout);
    }
    for name in ["cpu_s", "rss_mb"] {
        assert!(many.json().get(name).is_some(), "{name}: {}", many.stdout);
    }

    let refused = cellnet(&["call", "server", "other", "t", "--json", "--root", &server.url()]).await;
    assert_eq!((refused.status, &refused.json()["return_code"]), (1, &"process_exception".into()));
    let nobody = cellnet(&["call", "site-9", "task", "t", "--json", "--root", &server.url()]).await;
    assert_eq!(nobody.status, 4, "{}", nobody.stderr);
    let unreachable = cellnet(&[
        "call",
        "server",
        "task",
        "t",
        "--json",
        "--root",
        "tcp://127.0.0.1:1",
        "--timeout",
        "200ms",
    ]);
    let unreachable = unreachable.await;
    assert_eq!((unreachable.status, &unreachable.json()["return_code"]), (4, &"target_unreachable".into()));
}

#[tokio::test]
async fn a_relay_joins_sites_and_pipes_to_the_server() {
    let server = echo_server().await;
    let relay = ["serve", "--name", "relay-1", "--listen", "tcp://127.0.0.1:0", "--root", &server.url()];
    let relay = Serving::start(&relay).await;
    let site = ["serve", "--name", "relay-1.site-1", "--parent", &relay.url(), "--echo", "task,model"];
    let site = Serving::start(&site).await;
    assert_eq!(site.ready["listen"], Value::Array(Vec::new()));
    for channel in ["task", "model"] {
        let call = ["call", "relay-1.site-1", channel, "t", "through", "--root", &server.url()];
        assert_eq!(cellnet(&call).await.stdout, "through");
    }

    // From below the relay, too, without a name of one's own.
    for target in ["relay-1", "relay-1.site-1", "server"] {
        let call = ["call", target, "task", "t", "up", "--parent", &relay.url(), "--json"];
        let ended = cellnet(&call).await;
        // The relay has no handler; that it says so shows that it was asked.
        let expected = if target == "relay-1" { "process_exception" } else { "ok" };
        assert_eq!(ended.json()["return_code"], expected, "{target}: {}", ended.stdout);
    }

    let at = format!("relay-1@{}", relay.url());
    let side =
        |mode| ["pipe", "--mode", mode, "--site", "site-1", "--token", "j", "--relay", &at, "--channel", "c"];
    let echo = Serving::start(&[&side("passive")[..], &["--echo"]].concat()).await;
    assert_eq!(echo.ready["name"], "relay-1.site-1_j_passive");
    assert_eq!(echo.ready["peer"], "relay-1.site-1_j_active");
    // The first conversation ends with END; the side that answers goes on.
    for size in ["64", "3MiB"] {
        let sent = cellnet(&[&side("active")[..], &["--send", "4", "--size", size, "--json"]].concat()).await;
        assert_eq!(sent.status, 0, "{}", sent.stderr);
        assert!(sent.json()["msgs_s"].as_f64().unwrap() > 0.0, "{}", sent.stdout);
    }
    assert_eq!(echo.stop("TERM").await, Some(0));

    let timeout = ["--send", "1", "--json", "--timeout", "1s"];
    let nobody = cellnet(&[&side("active")[..], &timeout].concat()).await;
    // What the relay says of the stream that it could not forward.
    assert_eq!((nobody.status, &nobody.json()["return_code"]), (4, &"comm_error".into()));
    let at = format!("relay-2@{}", relay.url());
    let side = ["pipe", "--mode", "active", "--site", "s", "--token", "j", "--relay", &at, "--channel", "c"];
    let wrong = cellnet(&[&side[..], &timeout].concat()).await;
    assert!(wrong.status == 4 && wrong.stderr.contains("'relay-1', not 'relay-2'"), "{}", wrong.stderr);
}

#[tokio::test]
async fn of_several_urls_the_first_that_answers_is_used_and_told() {
    let server = echo_server().await;
    let both = format!("tcp://127.0.0.1:1,{}", server.url());
    let via = Value::Array(vec![server.url().into()]);
    let site =
        ["serve", "--name", "site-1", "--root", &both, "--listen", "tcp://127.0.0.1:0", "--echo", "task"];
    let site = Serving::start(&site).await;
    assert_eq!((&site.ready["via"], &server.ready["via"]), (&via, &Value::Null));
    let call = ["call", "server", "task", "t", "hi", "--json"];
    let repeated = ["--root", "tcp://127.0.0.1:1", "--root", &server.url()];
    for (target, root) in [("server", &["--root", &both][..]), ("site-1", &repeated)] {
        let ended = cellnet(&[&["call", target], &call[2..], root].concat()).await;
        assert_eq!((ended.status, &ended.json()["via"]), (0, &via), "{}", ended.stderr);
    }
    let config = Scratch::new(format!("root = ['tcp://127.0.0.1:1', '{}']", server.url()).as_bytes());
    let ended = cellnet(&[&call[..], &["--config", config.path.to_str().unwrap()]].concat()).await;
    assert_eq!(ended.json()["via"], via, "{}", ended.stderr);

    let at = format!("site-1@tcp://127.0.0.1:1,{}", site.url());
    let pipe = ["pipe", "--site", "site-1", "--token", "j", "--channel", "c", "--cp", &at, "--mode"];
    let echo = Serving::start(&[&pipe[..], &["passive", "--echo"]].concat()).await;
    let via = Value::Array(vec![site.url().into()]);
    assert_eq!(echo.ready["via"], via);
    let sent = cellnet(&[&pipe[..], &["active", "--send", "2", "--json"]].concat()).await;
    assert_eq!((sent.status, &sent.json()["via"]), (0, &via), "{}", sent.stderr);

    let nobody = ["--root", "tcp://127.0.0.1:1,tcp://127.0.0.1:2", "--timeout", "200ms"];
    let nobody = cellnet(&[&call[..], &nobody].concat()).await;
    assert!(nobody.status == 4 && nobody.stderr.contains("'tcp://127.0.0.1:1' ("), "{}", nobody.stderr);
    assert!(nobody.stderr.contains("'tcp://127.0.0.1:2' ("), "{}", nobody.stderr);
}

#[tokio::test]
async fn credentials_decide_who_is_served_and_failures_have_their_status() {
    let pki = Pki::new();
    let kit = |cn: &str| pki.kit(cn).to_str().unwrap().to_owned();
    let server =
        ["serve", "--name", "server", "--listen", "stcp://127.0.0.1:0", "--echo", "task", "--credentials"];
    let server = Serving::start(&[&server[..], &[&kit("server.example")]].concat()).await;
    let url = server.url();
    let call = ["call", "server", "task", "t", "hi", "--json", "--timeout", "3s", "--root", &url];
    let own = kit("site-1");
    let ended = cellnet(&[&call[..], &["--credentials", &own]].concat()).await;
    assert_eq!((ended.status, &ended.json()["payload"]), (0, &"hi".into()), "{}", ended.stderr);
    assert!(ended.json()["name"].as_str().unwrap().starts_with("site-1._cli_"), "{}", ended.stdout);
    let others = Pki::new();
    let other = others.kit("site-1");
    let keyless = pki.kit("site-1");
    fs::remove_file(keyless.join("client.key")).unwrap();
    let table: [(&[&str], i32, &str); 7] = [
        (&[], 2, "--credentials DIR"),
        (&["--credentials", &own, "--tls", "clear"], 2, "never in the clear"),
        (&["--credentials", "no/such"], 3, "'no/such/rootCA.pem'"),
        (&["--credentials", keyless.to_str().unwrap()], 3, "client.key"),
        (&["--credentials", other.to_str().unwrap()], 5, "UnknownIssuer"),
        (&["--credentials", &own, "--server-name", "elsewhere"], 5, "not valid for name"),
        (&["--credentials", &own, "--tls", "tls"], 5, "ertificate"),
    ];
    for (flags, status, named) in table {
        let ended = cellnet(&[&call[..], flags].concat()).await;
        assert_eq!(ended.status, status, "{flags:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(named), "{flags:?}: {}", ended.stderr);
    }
    for flags in [&["--server-name", "server.example"][..], &["--any-server-name"]] {
        let ended = cellnet(&[&call[..], &["--credentials", &own], flags].concat()).await;
        assert_eq!(ended.status, 0, "{flags:?}: {}", ended.stderr);
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_hangup_loads_the_credentials_again_and_drops_no_link() {
    let pki = Pki::new();
    let (kit, own) = (pki.kit("server"), pki.kit("site-1"));
    let (kit_dir, own_dir) = (kit.to_str().unwrap(), own.to_str().unwrap());
    let server = ["serve", "--name", "server", "--listen", "stcp://127.0.0.1:0", "--echo", "task"];
    let mut child = command(&[&server[..], &["--credentials", kit_dir]].concat()).spawn().unwrap();
    let mut logs = BufReader::new(child.stderr.take().unwrap()).lines();
    let server = Serving::of(child).await;
    let site =
        ["serve", "--name", "site-1", "--echo", "task", "--root", &server.url(), "--credentials", own_dir];
    let site = Serving::start(&site).await;
    let mut logged = async |text: &str| loop {
        let line = timeout(DEADLINE, logs.next_line()).await.unwrap().unwrap().expect("a log");
        assert!(!line.contains("is gone"), "{line}");
        if line.contains(text) {
            return;
        }
    };
    logged("site-1 connected").await;
    send_signal(&server.child, "HUP").await;
    logged("nothing has changed").await;
    let other = pki.kit("server");
    for file in ["server.crt", "server.key"] {
        fs::copy(other.join(file), kit.join(file)).unwrap();
    }
    send_signal(&server.child, "HUP").await;
    logged("loaded again").await;
    fs::write(kit.join("server.key"), "no key").unwrap();
    send_signal(&server.child, "HUP").await;
    logged("the old ones stay").await;
    let call = ["call", "site-1", "task", "t", "hi", "--root", &server.url(), "--credentials", own_dir];
    let ended = cellnet(&call).await;
    assert_eq!((ended.status, ended.stdout.as_str()), (0, "hi"), "{}", ended.stderr);
    assert_eq!(site.stop("TERM").await, Some(0));
}

#[tokio::test]
async fn flags_beat_the_environment_which_beats_the_file_which_beats_the_default() {
    let server = echo_server().await;
    let config = Scratch::new(format!("name = 'from-file'\nroot = '{}'\n", server.url()).as_bytes());
    let name = async |flags: &[&str], environment: &[(&str, &str)]| {
        let mut command = command(&[&["call", "server", "task", "t", "--json"], flags].concat());
        command.envs(environment.iter().copied());
        let ended = finish(command.spawn().unwrap(), b"").await;
        assert_eq!(ended.status, 0, "{}", ended.stderr);
        ended.json()["name"].as_str().unwrap().to_owned()
    };
    let file = ["--config", config.path.to_str().unwrap()];
    assert!(name(&["--root", &server.url()], &[]).await.starts_with("_cli_"));
    assert_eq!(name(&file, &[]).await, "from-file");
    assert_eq!(name(&[], &[("CELLNET_CONFIG", file[1])]).await, "from-file");
    assert_eq!(name(&file, &[("CELLNET_NAME", "from-env")]).await, "from-env");
    let all = [&file[..], &["--name", "from-flag"]].concat();
    assert_eq!(name(&all, &[("CELLNET_NAME", "from-env")]).await, "from-flag");

    let wrong = Scratch::new(b"[call]\ncount = 'many'\n");
    let ended = cellnet(&["call", "server", "task", "t", "--config", wrong.path.to_str().unwrap()]).await;
    assert_eq!(ended.status, 3);
    assert!(ended.stderr.contains("'count'") && ended.stderr.contains("'many'"), "{}", ended.stderr);
}

#[tokio::test]
async fn a_better_source_silences_the_rest_of_a_group_that_a_command_uses_one_of() {
    let config = Scratch::new(b"root = 'tcp://127.0.0.1:2'\necho = ['task']\n[pipe]\nsend = 3\n");
    let pipe =
        ["pipe", "--mode", "active", "--site", "s", "--token", "t", "--channel", "c", "--timeout", "100ms"];
    type Environment<'a> = &'a [(&'a str, &'a str)];
    let table: [(&[&str], Environment<'_>, i32, &str); 6] = [
        (&["--relay", "r@tcp://127.0.0.1:1", "--send", "1"], &[("CELLNET_ROOT", "x")], 4, "127.0.0.1:1'"),
        (&["--send", "1"], &[("CELLNET_ROOT", ""), ("CELLNET_CP", "c@tcp://127.0.0.1:1")], 4, "127.0.0.1:1'"),
        (&["--root", "tcp://127.0.0.1:1", "--send", "1"], &[("CELLNET_ECHO", "1")], 4, "127.0.0.1:1'"),
        (&["--config", "FILE"], &[("CELLNET_RELAY", "r@tcp://127.0.0.1:1")], 4, "127.0.0.1:1'"),
        (&["--config", "FILE"], &[("CELLNET_ECHO", "0")], 4, "127.0.0.1:2'"),
        (&["--root", "tcp://127.0.0.1:1", "--relay", "r@tcp://127.0.0.1:1", "--send", "1"], &[], 2, "one of"),
    ];
    for (flags, environment, status, named) in table {
        let path = |flag: &&str| {
            if *flag == "FILE" { config.path.to_str().unwrap().to_owned() } else { flag.to_string() }
        };
        let args: Vec<String> = pipe.iter().chain(flags).map(path).collect();
        let ended = finish(command(&args).envs(environment.iter().copied()).spawn().unwrap(), b"").await;
        assert_eq!(ended.status, status, "{args:?} {environment:?}: {}", ended.stderr);
        assert!(ended.stderr.contains(named), "{args:?} {environment:?}: {}", ended.stderr);
    }
}

#[tokio::test]
async fn the_server_ignores_a_root_that_is_common_to_all_commands() {
    let config = Scratch::new(b"root = 'tcp://127.0.0.1:1'\nname = 'server'\n");
    let serve = ["serve", "--listen", "tcp://127.0.0.1:0", "--config", config.path.to_str().unwrap()];
    assert_eq!(Serving::start(&serve).await.stop("TERM").await, Some(0));
    let refused = cellnet(&[&serve[..], &["--root", "tcp://127.0.0.1:1"]].concat()).await;
    assert_eq!(refused.status, 2, "{}", refused.stderr);
}

#[tokio::test]
async fn json_is_printed_even_if_a_command_fails_before_it_begins() {
    for (args, status) in [
        (&["fly", "--json"][..], 2),
        (&["call", "server", "task", "t", "--json"], 2),
        (&["serve", "--json"], 2),
        (&["serve", "--json", "--config", "no/such.toml"], 3),
    ] {
        let ended = cellnet(args).await;
        let json = ended.json();
        assert_eq!((ended.status, &json["return_code"]), (status, &Value::Null), "{args:?}");
        assert!(ended.stderr.contains(json["error"].as_str().unwrap()), "{args:?}: {json} {}", ended.stderr);
    }
}

#[tokio::test]
async fn the_demo_holds() {
    let ended = cellnet(&["demo"]).await;
    assert_eq!(ended.status, 0, "{}{}", ended.stdout, ended.stderr);
    assert!(ended.stdout.contains("server → relay-1 → relay-1.site-2"), "{}", ended.stdout);
    assert!(ended.stdout.contains("over quic (mtls), stcp (mtls)"), "{}", ended.stdout);
    let file = Scratch::new(b"a small payload");
    let ended = cellnet(&["demo", "--json", "--file", file.path.to_str().unwrap()]).await;
    assert_eq!((ended.status, &ended.json()["error"]), (0, &Value::Null), "{}", ended.stderr);
    assert_eq!(ended.json()["bytes"], 15);
    let transports = json!({
        "relay-1": "quic (mtls)", "relay-1.site-1": "wss (mtls)", "relay-1.site-2": "stcp (mtls)"
    });
    assert_eq!(ended.json()["transports"], transports);
}

async fn echo_server() -> Serving {
    let serve =
        ["serve", "--name", "server", "--listen", "tcp://127.0.0.1:0", "--echo", "task", "--echo", "model"];
    Serving::start(&serve).await
}

/// A file that goes away.
struct Scratch {
    path: PathBuf,
}

impl Scratch {
    fn new(content: &[u8]) -> Self {
        let path = std::env::temp_dir().join(format!("cellnet-test-{}", uuid::Uuid::new_v4()));
        fs::write(&path, content).unwrap();
        Self { path }
    }

    fn at_sign(&self) -> String {
        format!("@{}", self.path.display())
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

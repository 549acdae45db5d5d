//! `cellnet cert`: what it writes can be used, and by its owner alone.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use cellnet::{
    Fqcn, Message,
    tls::{CredentialFiles, Tls, TlsMode},
};
use serde_json::Value;

/// A folder that goes with the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let dir = std::env::temp_dir().join(format!("cellnet-cert-{}", uuid::Uuid::new_v4()));
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    fn pki(&self) -> PathBuf {
        self.0.join("PKI")
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn cert(args: &[&str], pki: &Path) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cellnet"));
    command.arg("cert").args(args);
    if args[0] == "show" {
        command.arg(pki)
    } else {
        command.arg("--dir").arg(pki)
    };
    command.output().unwrap()
}

fn ok(args: &[&str], pki: &Path) -> String {
    let output = cert(args, pki);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn refused(args: &[&str], pki: &Path) -> (Option<i32>, String) {
    let output = cert(args, pki);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(output.stdout.is_empty() && stderr.lines().count() == 1, "{args:?}: {stderr}");
    (output.status.code(), stderr)
}

fn tls(dir: &Path) -> Tls {
    Tls::load(CredentialFiles::in_dir(dir)).unwrap().with_mode(TlsMode::Mtls)
}

#[tokio::test]
async fn issued_credentials_link_cells_under_mtls() {
    let folder = Folder::new();
    let pki = folder.pki();
    ok(&["init"], &pki);
    ok(&["issue", "server"], &pki);
    ok(&["issue", "site-1"], &pki);
    let server = cellnet::builder(Fqcn::server()).tls(tls(&pki.join("server")));
    let server = server.listen("stcp://127.0.0.1:0".parse().unwrap()).start().await.unwrap();
    let site = cellnet::builder("site-1".parse().unwrap()).tls(tls(&pki.join("site-1")));
    let site = site.dial(server.listening()[0].clone()).start().await.unwrap();
    site.connected().await;
    let reply = site.request(server.name(), "task", "t", Message::empty()).await.unwrap();
    assert!(reply.code().is_some());
    assert_eq!(server.neighbours(), ["site-1".parse().unwrap()]);
}

#[cfg(unix)]
#[test]
fn keys_and_folders_are_for_their_owner_alone() {
    use std::os::unix::fs::PermissionsExt;
    let folder = Folder::new();
    let pki = folder.pki();
    ok(&["init"], &pki);
    ok(&["issue", "site-1"], &pki);
    let mode = |path: &str| fs::metadata(pki.join(path)).unwrap().permissions().mode() & 0o777;
    for dir in ["", "site-1"] {
        assert_eq!(mode(dir), 0o700, "{dir}");
    }
    for key in ["rootCA.key", "site-1/server.key", "site-1/client.key"] {
        assert_eq!(mode(key), 0o600, "{key}");
    }
    let mut files: Vec<_> =
        fs::read_dir(pki.join("site-1")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["client.crt", "client.key", "rootCA.pem", "server.crt", "server.key"]);
}

#[test]
fn nothing_is_replaced_unless_forced() {
    let folder = Folder::new();
    let pki = folder.pki();
    ok(&["init"], &pki);
    ok(&["issue", "site-1"], &pki);
    for (args, file) in [(&["init"][..], "rootCA.pem"), (&["issue", "site-1"], "site-1/server.key")] {
        let before = fs::read(pki.join(file)).unwrap();
        let (status, text) = refused(args, &pki);
        assert!(status == Some(3) && text.contains("--force"), "{text}");
        assert_eq!(fs::read(pki.join(file)).unwrap(), before);
    }
    let before = fs::read(pki.join("site-1/server.key")).unwrap();
    ok(&["issue", "site-1", "--force"], &pki);
    assert_ne!(fs::read(pki.join("site-1/server.key")).unwrap(), before);
}

#[test]
fn wrong_input_is_refused_with_the_value() {
    let folder = Folder::new();
    let pki = folder.pki();
    let (status, text) = refused(&["issue", "site-1"], &pki);
    assert!(status == Some(3) && text.contains("cellnet cert init"), "{text}");
    ok(&["init"], &pki);
    for bad in ["../x", "a/b", "..", "", "-x", "a b"] {
        let (status, _) = refused(&["issue", "--", bad], &pki);
        assert_eq!(status, Some(2), "{bad}");
    }
    for (args, value) in [
        (["issue", "x", "--host", "a b"], "'a b'"),
        (["issue", "x", "--days", "0"], "'0'"),
        (["issue", "x", "--days", "99999"], "'99999'"),
    ] {
        let (status, text) = refused(&args, &pki);
        assert!(status == Some(2) && text.contains(value), "{text}");
    }
    let other = folder.0.join("other");
    ok(&["init"], &other);
    fs::copy(other.join("rootCA.key"), pki.join("rootCA.key")).unwrap();
    let (status, text) = refused(&["issue", "site-1"], &pki);
    assert!(status == Some(3) && text.contains("rootCA.key") && text.contains("is not the key of"), "{text}");
    let (status, text) = refused(&["show"], &folder.0.join("nobody"));
    assert!(status == Some(3) && text.contains("nobody"), "{text}");
    assert!(!pki.join("x").exists(), "nothing was written for a wrong line");
}

#[test]
fn show_tells_what_the_certificates_say() {
    let folder = Folder::new();
    let pki = folder.pki();
    ok(&["init", "--name", "my CA"], &pki);
    ok(&["issue", "server", "--host", "fl.example.org", "--host", "10.0.0.1", "--days", "30"], &pki);
    let lines: Vec<Value> = ok(&["--json", "show"][1..], &pki)
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect();
    assert!(lines.is_empty(), "text is for people");
    let json = ok(&["show", "--json"], &pki);
    let told: Vec<Value> = json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let find = |name: &str| told.iter().find(|told| told["path"].as_str().unwrap().ends_with(name)).unwrap();
    let (ca, server, client) = (&told[0], find("server/server.crt"), find("server/client.crt"));
    assert_eq!((&ca["common_name"], &ca["authority"]), (&"my CA".into(), &true.into()));
    assert!(ca["days_left"] == 3649 || ca["days_left"] == 3650, "{ca}");
    assert_eq!(server["hosts"], serde_json::json!(["fl.example.org", "10.0.0.1"]));
    assert_eq!((&server["common_name"], &server["issuer"]), (&"server".into(), &"CN=my CA".into()));
    assert!(
        server["authority"] == false && (server["days_left"] == 29 || server["days_left"] == 30),
        "{server}"
    );
    assert_eq!(client["hosts"], serde_json::json!([]));
    assert!(told.iter().filter(|told| told["key"].is_string()).all(|told| told["key_matches"] == true));
    assert_eq!(server["sha256"].as_str().unwrap().len(), 32 * 3 - 1);
    fs::copy(pki.join("server/client.key"), pki.join("server/server.key")).unwrap();
    assert!(ok(&["show"], &pki).contains("DOES NOT FIT"));
}

#[test]
fn a_server_for_this_machine_alone_is_warned_of() {
    let folder = Folder::new();
    let pki = folder.pki();
    ok(&["init"], &pki);
    let output = cert(&["issue", "server"], &pki);
    assert!(String::from_utf8_lossy(&output.stderr).contains("--host"));
    let output = cert(&["issue", "server", "--force", "--host", "fl.example.org"], &pki);
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

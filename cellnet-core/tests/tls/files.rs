//! Files that hold credentials, and what is wrong with them.

use std::{fs, path::Path};

use cellnet_core::{
    testkit::pki::Pki,
    tls::{CredentialFiles, Tls, TlsMode},
};

use crate::{log::Log, support::load};

use TlsMode::{Mtls, Tls as OneSided};

#[test]
fn files_that_cannot_be_used_are_named_with_the_reason() {
    let pki = Pki::new();
    let replaced = |name: &str, content: &[u8]| {
        let dir = pki.kit("site-1");
        fs::write(dir.join(name), content).unwrap();
        dir
    };
    let data = |name: &str| {
        fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/tls").join(name)).unwrap()
    };
    let other_key = fs::read(pki.kit("x").join("client.key")).unwrap();
    let no_ca = pki.kit("site-1");
    fs::remove_file(no_ca.join("rootCA.pem")).unwrap();
    let folder = pki.kit("site-1");
    fs::remove_file(folder.join("server.key")).unwrap();
    fs::create_dir(folder.join("server.key")).unwrap();
    for (dir, file, why) in [
        (no_ca, "rootCA.pem", "cannot read"),
        (replaced("rootCA.pem", b""), "rootCA.pem", "it holds no certificate in PEM"),
        (replaced("rootCA.pem", b"-----BEGIN CERTIFICATE-----\nAAAA"), "rootCA.pem", "cannot be used"),
        (replaced("customRootCA.pem", b"x"), "customRootCA.pem", "it holds no certificate in PEM"),
        (replaced("server.crt", &other_key), "server.crt", "it holds no certificate in PEM"),
        (replaced("client.key", &other_key), "client.key", "it is not the key of"),
        (replaced("client.key", b"secret"), "client.key", "it holds no private key in PEM"),
        (replaced("client.key", &data("p256.encrypted.key")), "client.key", "it is encrypted"),
        (replaced("client.key", &vec![b'x'; 5 << 20]), "client.key", "it is no file of at most"),
        (folder, "server.key", "it is no file"),
    ] {
        let error = Tls::load(CredentialFiles::in_dir(&dir)).unwrap_err().to_string();
        assert!(error.contains(file) && error.contains(why), "{file}, {why}: {error}");
        assert!(!error.contains("secret"), "{error}");
    }
}

#[test]
fn a_side_of_a_mode_names_the_file_that_it_misses() {
    let pki = Pki::new();
    for (file, mode) in
        [("client.crt", Mtls), ("client.key", Mtls), ("server.crt", OneSided), ("server.key", Mtls)]
    {
        let dir = pki.kit("site-1");
        fs::remove_file(dir.join(file)).unwrap();
        let tls = load(&dir);
        let (client, server) = (tls.client("localhost", mode, &[]), tls.server(mode, &[]));
        let dials = file.starts_with("client");
        let error = if dials { client.err() } else { server.err() }.unwrap().to_string();
        assert!(error.starts_with(&format!("{mode} needs the file")) && error.contains(file), "{error}");
        assert!(if dials { tls.server(mode, &[]).is_ok() } else { tls.client("h", mode, &[]).is_ok() });
    }
    let error = load(&pki.kit("x")).client("no host", Mtls, &[]).unwrap_err();
    assert_eq!(error.to_string(), "'no host' is neither a host name nor an address");
}

#[cfg(unix)]
#[test]
fn a_key_that_others_may_read_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let pki = Pki::new();
    let dir = pki.kit("site-1");
    let log = Log::begin();
    load(&dir);
    assert_eq!(log.count("WARN"), 0, "{}", log.text());
    fs::set_permissions(dir.join("client.key"), fs::Permissions::from_mode(0o640)).unwrap();
    load(&dir);
    assert!(log.count("WARN") == 1 && log.text().contains("client.key"), "{}", log.text());
}

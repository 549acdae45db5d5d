//! `cellnet cert issue`: the credentials of one cell.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::json;

use super::{
    files::{self, Readers},
    init::{set_validity, unmade},
};
use crate::cli::{
    show,
    status::{Failure, Status},
};

/// Make the credentials of a cell in DIR/NAME: rootCA.pem, server.crt, server.key, client.crt, client.key
///
/// NAME becomes the common name: with it a cell may be NAME, any cell below it, and the pipes of it. Only server.crt
/// names hosts; it is what a cell shows where it listens.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of the authority
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,

    /// Name of the cell, or of an administrator
    #[arg(value_parser = name)]
    name: String,

    /// Name or address by which the cell is dialled; may be given several times. Default: localhost, 127.0.0.1, ::1,
    /// and NAME if it can be the name of a host
    #[arg(long = "host", value_name = "HOST", value_parser = host, value_delimiter = ',')]
    hosts: Vec<String>,

    /// Days until the certificates end
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,

    /// Replace credentials that are there. Cells that use them take the new ones with their next connection
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: Args, json: bool) -> Result<(), Failure> {
    let hosts = if args.hosts.is_empty() { usual_hosts(&args.name) } else { args.hosts.clone() };
    if args.name == "server" && hosts.iter().all(|host| is_local(host, &args.name)) {
        eprintln!("cellnet: warning: others reach the server by a name or an address; give it with --host");
    }
    let paths = make(&args.dir, &args.name, &hosts, args.days, args.force)?;
    if json {
        let dir = args.dir.join(&args.name);
        let object = json!({ "name": args.name, "dir": dir, "hosts": hosts, "days": args.days });
        return Ok(show::print_json(&object)?);
    }
    for path in &paths {
        show::print_line(&path.display().to_string())?;
    }
    Ok(())
}

/// Makes the credentials of a cell, by the authority of a folder and in a folder below it; gives the files.
pub(crate) fn make(
    authority_dir: &Path,
    name: &str,
    hosts: &[String],
    days: u32,
    force: bool,
) -> Result<Vec<PathBuf>, Failure> {
    let (ca_cert, ca_key) = (authority_dir.join("rootCA.pem"), authority_dir.join("rootCA.key"));
    if !ca_cert.exists() {
        let dir = authority_dir.display();
        let text = format!("'{dir}' holds no authority; make one with: cellnet cert init --dir {dir}");
        return Err(Failure::new(Status::Config, text));
    }
    let (authority, key) = (files::read(&ca_cert)?, files::read(&ca_key)?);
    let unusable = |what: &PathBuf, why: String| {
        Failure::new(Status::Config, format!("'{}' cannot be used: {why}", what.display()))
    };
    cellnet::tls::check_key(&ca_cert, &ca_key)
        .map_err(|error| Failure::new(Status::Config, error.to_string()))?;
    let key = KeyPair::from_pem(&key).map_err(|error| unusable(&ca_key, error.to_string()))?;
    let issuer = Issuer::from_ca_cert_pem(&authority, key);
    let issuer = issuer.map_err(|error| unusable(&ca_cert, error.to_string()))?;

    let dir = authority_dir.join(name);
    let sides = [
        ("server", ExtendedKeyUsagePurpose::ServerAuth, hosts.to_vec()),
        ("client", ExtendedKeyUsagePurpose::ClientAuth, Vec::new()),
    ];
    let names = ["rootCA.pem", "server.crt", "server.key", "client.crt", "client.key"];
    let paths = names.map(|name| dir.join(name));
    files::make_dir(&dir)?;
    if !force {
        files::none_there(paths.iter().map(PathBuf::as_path))?;
    }
    files::write(&paths[0], &authority, Readers::All)?;
    for (side, usage, hosts) in sides {
        let mut params = CertificateParams::new(hosts).map_err(|error| unmade(&error))?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.use_authority_key_identifier_extension = true;
        set_validity(&mut params, days);
        let key = KeyPair::generate().map_err(|error| unmade(&error))?;
        let made = params.signed_by(&key, &issuer).map_err(|error| unmade(&error))?;
        files::write(&dir.join(side).with_extension("key"), &key.serialize_pem(), Readers::Owner)?;
        files::write(&dir.join(side).with_extension("crt"), &made.pem(), Readers::All)?;
    }
    Ok(paths.to_vec())
}

fn usual_hosts(name: &str) -> Vec<String> {
    let own = Some(name).filter(|name| host(name).is_ok());
    ["localhost", "127.0.0.1", "::1"].into_iter().chain(own).map(str::to_owned).collect()
}

fn is_local(host: &str, name: &str) -> bool {
    let loopback = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    loopback || host == "localhost" || host == name
}

/// The name becomes a folder, and a common name has at most 64 characters (RFC 5280).
fn name(text: &str) -> Result<String, String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@');
    let begins = text.chars().next().is_some_and(|c| c.is_ascii_alphanumeric() || c == '_');
    if begins
        && text.len() <= 64
        && text.chars().all(fits)
        && !text.contains("..")
        && !text.starts_with("rootCA.")
    {
        Ok(text.to_owned())
    } else {
        Err("use up to 64 letters, digits, '.', '_', '-' and '@', beginning with a letter, a digit or '_'"
            .into())
    }
}

fn host(text: &str) -> Result<String, String> {
    let label = |label: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-';
        !label.is_empty()
            && label.len() <= 63
            && label.chars().all(fits)
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    if text.parse::<IpAddr>().is_ok() || (text.len() <= 253 && text.split('.').all(label)) {
        Ok(text.to_owned())
    } else {
        Err("it is neither the name of a host nor an address".into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_in_the_folder() {
        for good in ["site-1", "server.example.org", "admin@example.org", "relay-1.site_2", "_admin_1"] {
            assert!(name(good).is_ok(), "{good}");
        }
        let long = "x".repeat(65);
        for bad in [
            "",
            ".",
            "..",
            "../x",
            "a/b",
            "a\\b",
            "/etc",
            "-x",
            "a..b",
            "a b",
            "a\n",
            "ä",
            "rootCA.pem",
            &long,
        ] {
            assert!(name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_name_is_a_host_only_if_it_can_be_one() {
        assert_eq!(usual_hosts("site-1"), ["localhost", "127.0.0.1", "::1", "site-1"]);
        for no_host in ["site_1", "admin@example.org"] {
            assert_eq!(usual_hosts(no_host).len(), 3, "{no_host}");
        }
        for bad in ["", "a b", "-a", "a-", "a..b", "1.2.3.4:5", "[::1]"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }
}

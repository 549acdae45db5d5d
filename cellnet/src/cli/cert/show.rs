//! `cellnet cert show`: what certificates say.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    time::SystemTime,
};

use serde::Serialize;
use sha2::{Digest, Sha256};
use x509_parser::{
    extensions::GeneralName,
    pem::Pem,
    prelude::{ASN1Time, X509Certificate},
};

use crate::cli::{
    show,
    status::{Failure, Status},
};

/// Show certificates: whose they are, who issued them, for which hosts, until when, and whether the key beside them fits
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Files, or folders whose *.pem and *.crt are meant, with those of the folders in them
    #[arg(required = true, value_name = "FILE|DIR")]
    paths: Vec<PathBuf>,
}

pub(crate) fn run(args: Args, json: bool) -> Result<(), Failure> {
    let mut files = Vec::new();
    for path in &args.paths {
        let before = files.len();
        collect(path, 2, &mut files)?;
        if files.len() == before {
            return Err(unreadable(path, "it holds no *.pem and no *.crt"));
        }
    }
    for path in &files {
        for told in read(path)? {
            if json { show::print_json(&told) } else { show::print_line(&told.text()) }?;
        }
    }
    Ok(())
}

/// What one certificate says.
#[derive(Debug, Serialize)]
struct Told {
    path: PathBuf,
    subject: String,
    issuer: String,
    common_name: Option<String>,
    authority: bool,
    hosts: Vec<String>,
    not_before: String,
    not_after: String,
    days_left: i64,
    sha256: String,
    /// The file with the key, if it is there.
    key: Option<PathBuf>,
    key_matches: Option<bool>,
}

impl Told {
    fn new(path: &Path, der: &[u8], certificate: &X509Certificate<'_>) -> Self {
        let validity = certificate.validity();
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let left = validity.not_after.timestamp() - i64::try_from(now).unwrap_or(i64::MAX);
        let key = Some(path.with_extension("key")).filter(|key| key.exists());
        let matches = |key: &PathBuf| cellnet::tls::check_key(path, key).is_ok();
        let digest = Sha256::digest(der);
        let hex: Vec<_> = digest.iter().map(|byte| format!("{byte:02X}")).collect();
        let common_name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        Self {
            path: path.into(),
            subject: printable(&certificate.subject().to_string()),
            issuer: printable(&certificate.issuer().to_string()),
            common_name: common_name.map(printable),
            authority: certificate.is_ca(),
            hosts: hosts(certificate),
            not_before: date(&validity.not_before),
            not_after: date(&validity.not_after),
            days_left: left.div_euclid(86_400),
            sha256: hex.join(":"),
            key_matches: key.as_ref().map(matches),
            key,
        }
    }

    fn text(&self) -> String {
        let valid = match self.days_left {
            ..0 => "EXPIRED".to_owned(),
            days => format!("{days} days left"),
        };
        let key = match (&self.key, self.key_matches) {
            (Some(key), Some(true)) => format!("{} fits", key.display()),
            (Some(key), _) => format!("{} DOES NOT FIT", key.display()),
            _ => "not beside it".to_owned(),
        };
        let kind = if self.authority { " (authority)" } else { "" };
        format!(
            "{}{kind}\n  subject  {}\n  issuer   {}\n  hosts    {}\n  valid    {} until {}, {valid}\n  sha256   {}\n  key      {key}",
            self.path.display(),
            self.subject,
            self.issuer,
            if self.hosts.is_empty() { "none".to_owned() } else { self.hosts.join(", ") },
            self.not_before,
            self.not_after,
            self.sha256,
        )
    }
}

/// Files below a path, so many levels deep, in order.
fn collect(path: &Path, levels: u32, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    if !path.is_dir() {
        files.push(path.into());
        return Ok(());
    }
    let entries = fs::read_dir(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let entries = entries.map_err(|error| unreadable(path, &error.to_string()))?;
    let mut paths: Vec<_> = entries.iter().map(fs::DirEntry::path).collect();
    paths.sort();
    for path in paths {
        let is_certificate = path.extension().is_some_and(|ext| ext == "pem" || ext == "crt");
        if is_certificate && path.is_file() {
            files.push(path);
        } else if levels > 1 && path.is_dir() {
            collect(&path, levels - 1, files)?;
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<Told>, Failure> {
    let bytes = fs::read(path).map_err(|error| unreadable(path, &error.to_string()))?;
    let mut told = Vec::new();
    for pem in Pem::iter_from_buffer(&bytes) {
        let pem = pem.map_err(|error| unreadable(path, &error.to_string()))?;
        if pem.label == "CERTIFICATE" {
            let certificate = pem.parse_x509().map_err(|error| unreadable(path, &error.to_string()))?;
            told.push(Told::new(path, &pem.contents, &certificate));
        }
    }
    if told.is_empty() { Err(unreadable(path, "it holds no certificate in PEM")) } else { Ok(told) }
}

fn unreadable(path: &Path, why: &str) -> Failure {
    Failure::new(Status::Config, format!("'{}' cannot be shown: {why}", path.display()))
}

fn hosts(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.map(|names| names.value.general_names.as_slice()).unwrap_or_default();
    let host = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(printable(name)),
        GeneralName::IPAddress(bytes) => match (<[u8; 4]>::try_from(*bytes), <[u8; 16]>::try_from(*bytes)) {
            (Ok(v4), _) => Some(Ipv4Addr::from(v4).to_string()),
            (_, Ok(v6)) => Some(Ipv6Addr::from(v6).to_string()),
            _ => None,
        },
        _ => None,
    };
    names.iter().filter_map(host).collect()
}

/// As in ISO 8601, in UTC.
fn date(time: &ASN1Time) -> String {
    let time = time.to_datetime();
    let (year, month, day) = (time.year(), u8::from(time.month()), time.day());
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", time.hour(), time.minute(), time.second())
}

/// What somebody else wrote must not move the cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

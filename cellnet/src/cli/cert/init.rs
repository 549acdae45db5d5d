//! `cellnet cert init`: a private authority.

use std::{
    path::{Path, PathBuf},
    time::SystemTime,
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd};
use serde_json::json;

use super::files::{self, Readers};
use crate::cli::{
    show,
    status::{Failure, Status},
};

/// Make an authority: rootCA.pem, which every cell needs, and rootCA.key, which no cell needs
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Folder of the authority
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,

    /// Name of the authority
    #[arg(long, default_value = "cellnet root CA", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    name: String,

    /// Days until it ends
    #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,

    /// Replace an authority that is there. Certificates of the old one are then good for nothing
    #[arg(long)]
    force: bool,
}

pub(crate) fn run(args: Args, json: bool) -> Result<(), Failure> {
    let [cert, key] = make(&args.dir, &args.name, args.days, args.force)?;
    if json {
        let object = json!({ "name": args.name, "ca_cert": cert, "ca_key": key, "days": args.days });
        return Ok(show::print_json(&object)?);
    }
    show::print_line(&format!("{}\n{}", cert.display(), key.display()))?;
    Ok(())
}

/// Makes an authority in a folder; gives its certificate and its key.
pub(crate) fn make(dir: &Path, name: &str, days: u32, force: bool) -> Result<[PathBuf; 2], Failure> {
    let paths @ [cert, key] = &["rootCA.pem", "rootCA.key"].map(|name| dir.join(name));
    files::make_dir(dir)?;
    if !force {
        files::none_there(paths.iter().map(PathBuf::as_path))?;
    }
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    set_validity(&mut params, days);
    let pair = KeyPair::generate().map_err(|error| unmade(&error))?;
    let made = params.self_signed(&pair).map_err(|error| unmade(&error))?;
    files::write(key, &pair.serialize_pem(), Readers::Owner)?;
    files::write(cert, &made.pem(), Readers::All)?;
    Ok(paths.clone())
}

/// From an hour ago, for clocks that are behind, until so many days from now.
pub(super) fn set_validity(params: &mut CertificateParams, days: u32) {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let now = date_time_ymd(1970, 1, 1) + std::time::Duration::from_secs(now.as_secs());
    params.not_before = now - std::time::Duration::from_secs(3600);
    params.not_after = now + std::time::Duration::from_secs(u64::from(days) * 86_400);
}

pub(super) fn unmade(error: &rcgen::Error) -> Failure {
    Failure::new(Status::Failed, format!("cannot make a certificate: {error}"))
}

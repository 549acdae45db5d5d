//! `cellnet cp`: copies files to other cells, or from one.

mod follow;
mod place;
mod reference;
mod report;
mod view;

use std::{path::Path, time::Duration};

use cellnet::{
    Cell, Fqcn, SHUTDOWN,
    transfer::{FetchOptions, SendOptions, TransferConfig, Transfers},
};

use super::{
    figures::Watch,
    net::{self, Upward},
    security::{Security, Use},
    status::{Failure, Status},
    stop::Stop,
    units,
};
use follow::{Ended, Following, follow};
use place::{Input, Job, Place, Pull, Push};
use report::Report;
use view::{Shown, View};

/// Copy files and folders to the inboxes of other cells, or from the outbox of one
///
/// Every block is verified when it arrives, and files get their names once all of them is there and the digests of both
/// sides agree. What is interrupted goes on where it was when the same command is run again, over any transport.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct Args {
    /// FILE… TARGET:PATH to send, TARGET:PATH DIR to fetch. Several targets: A,B:PATH. - is standard input or output
    ///
    /// PATH is relative to the inbox or outbox of the target. To send, it is a folder if it is empty or ends in /, else the
    /// name that the file gets. A file with a colon in its name is written ./NAME.
    #[arg(required = true, num_args = 1.., value_name = "FILE|TARGET:PATH|-")]
    places: Vec<Place>,

    /// Replace files that are there already
    #[arg(long, env = "CELLNET_OVERWRITE", value_parser = clap::builder::FalseyValueParser::new())]
    overwrite: bool,

    /// Leave out symbolic links and what else is neither file nor folder, instead of refusing
    #[arg(long, env = "CELLNET_SKIP_SPECIAL", value_parser = clap::builder::FalseyValueParser::new())]
    skip_special: bool,

    /// Name of this cell; a random one by default
    #[arg(long, env = "CELLNET_NAME", value_name = "FQCN")]
    name: Option<Fqcn>,

    #[command(flatten)]
    upward: Upward,

    /// How long to wait for a connection, and for the first answer of each target
    #[arg(long, env = "CELLNET_TIMEOUT", default_value = "5s", value_parser = units::duration)]
    timeout: Duration,

    /// How long to go on without any progress, links that are lost included
    #[arg(long, env = "CELLNET_PATIENCE", default_value = "5m", value_parser = units::duration)]
    patience: Duration,

    #[command(flatten)]
    security: Security,
}

const EXAMPLES: &str = "\
Examples:
  cellnet cp model.safetensors site-1:models/ --root tcp://127.0.0.1:8002
  cellnet cp data/ notes.txt site-1,relay-1.site-2:today/ --root tcp://127.0.0.1:8002
  cellnet cp server:models/global.bin . --root quic://server.example:8002,wss://server.example --credentials pki/site-1
  tar c data | cellnet cp - server:data.tar --parent tcp://127.0.0.1:8003 --json

The other side is run with cellnet serve --inbox DIR, or --outbox DIR to fetch from it.";

pub(crate) async fn run(args: Args, json: bool) -> Result<(), Failure> {
    let job = Job::of(&args.places)?;
    args.upward.lead_to(&job.targets()[0])?;
    check(&job)?;
    let trust = args.security.load(args.upward.urls().map(|url| (Use::Dial, url)))?;
    let mut stop = Stop::new()?;
    let watch = Watch::start();
    let joined = net::join(&trust, &args.upward, args.name.as_ref(), job.targets(), args.timeout);
    let (cell, reached) = tokio::select! {
        joined = joined => joined?,
        () = stop.asked() => return Err(stopped()),
    };
    let ended = match reached {
        Ok(()) => copy(&cell, &args, &job, &mut stop, json).await,
        Err(unreached) => Err(unreached.into()),
    };
    let told = Report::of(&cell, &job, &ended, &watch).tell(json);
    cell.shutdown(SHUTDOWN).await;
    told?;
    ended.and_then(|ended| ended.into_iter().find_map(Ended::into_failure).map_or(Ok(()), Err))
}

/// What can be known before anybody is asked.
fn check(job: &Job) -> Result<(), Failure> {
    match job {
        Job::Push(Push { from: Input::Files(files), .. }) => {
            files.iter().try_for_each(|file| match file.symlink_metadata() {
                Ok(_) => Ok(()),
                Err(error) => Err(Failure::usage(format!("cannot read '{}': {error}", file.display()))),
            })
        }
        Job::Pull(Pull { dir: Some(dir), .. }) => make_dir(dir),
        _ => Ok(()),
    }
}

fn make_dir(dir: &Path) -> Result<(), Failure> {
    std::fs::create_dir_all(dir)
        .map_err(|error| Failure::usage(format!("cannot use the folder '{}': {error}", dir.display())))
}

/// Runs all transfers of a job to their ends.
async fn copy(
    cell: &Cell,
    args: &Args,
    job: &Job,
    stop: &mut Stop,
    json: bool,
) -> Result<Vec<Ended>, Failure> {
    let mut config = TransferConfig::default();
    config.patience = args.patience;
    let transfers = Transfers::attach(cell, config).await?;
    let view = View::new(json && !job.fills_stdout());
    let mut following = Following::default();
    let copies = async {
        start(cell, &transfers, args, job, &view, &mut following).await;
        following.all().await
    };
    let ended = tokio::select! {
        ended = copies => Ok(ended),
        () = stop.asked() => Err(stopped()),
    };
    // Whatever still runs is given up, and the other side told.
    drop(following);
    transfers.shutdown().await;
    ended
}

/// Starts a transfer with each target that knows transfers, and a download with each that does not.
async fn start(
    cell: &Cell,
    transfers: &Transfers,
    args: &Args,
    job: &Job,
    view: &View,
    following: &mut Following,
) {
    let mut knowing = Vec::new();
    for target in job.targets() {
        if reference::knows_transfers(cell, target, args.timeout).await {
            knowing.push(target.clone());
        } else {
            download(cell, args, job, target, view.follow(target), following);
        }
    }
    if knowing.is_empty() {
        return;
    }
    let options = SendOptions::default().overwrite(args.overwrite).skip_special(args.skip_special);
    let running = match job {
        Job::Push(Push { from: Input::Files(files), path, .. }) => {
            transfers.send_many(files, &knowing, path, options)
        }
        Job::Push(Push { from: Input::Stdin, path, .. }) => {
            vec![transfers.send_reader(tokio::io::stdin(), &knowing[0], path, options)]
        }
        Job::Pull(Pull { target, path, dir: Some(dir) }) => {
            vec![transfers.fetch(target, path, dir, FetchOptions::default().overwrite(args.overwrite))]
        }
        Job::Pull(Pull { target, path, dir: None }) => {
            vec![transfers.fetch_into(target, path, tokio::io::stdout())]
        }
    };
    for (target, running) in knowing.into_iter().zip(running) {
        following.add(follow(running, view.follow(&target), target, args.timeout));
    }
}

fn download(cell: &Cell, args: &Args, job: &Job, target: &Fqcn, shown: Shown, following: &mut Following) {
    let (cell, target, patience) = (cell.clone(), target.clone(), args.patience);
    match job {
        Job::Push(Push { from: Input::Files(files), path, .. }) => {
            following.add(reference::push(cell, files.clone(), target, path.clone(), patience, shown));
        }
        Job::Pull(Pull { path, dir: Some(dir), .. }) => {
            let (path, dir) = (path.clone(), dir.clone());
            following.add(reference::pull(cell, target, path, dir, args.overwrite, patience, shown));
        }
        _ => following.add(async move { reference::unable(&target, shown) }),
    }
}

fn stopped() -> Failure {
    Failure::new(Status::Failed, "stopped; run the same command again to go on from here")
}

//! What a process of a turn hears from the one that started it, and what it says.
//!
//! ```text
//! PROGRAM serve SIDE [ADDRESS]     READY {"address"}: answers there; behind a router if that is named
//! PROGRAM relay SIDE [ADDRESS]     READY {"address"}: passes on what comes there, to the server if that is named
//! PROGRAM run SIDE ADDRESS JOB     WARM {} when it begins to count, then DONE {"messages", "msgs_s", "p50_us", "p99_us"}
//! ```
//! Each ends when its standard input does, not before, so that its processor time can be read. The package `brokers` has these files too.

mod job;
mod one_way;
pub(crate) mod runtime;
mod tally;

use std::{env, io, process, sync::mpsc, thread, time::Duration};

use serde_json::{Value, json};

pub(crate) use job::Job;
pub(crate) use one_way::{OneWay, push, settle};
pub(crate) use runtime::runtime;
pub(crate) use tally::Tally;

/// What a process is for.
pub(crate) enum Role {
    Serve { side: String, router: Option<String> },
    Relay { side: String, server: Option<String> },
    Run { side: String, address: String, job: Job },
}

impl Role {
    /// That of this process, if it was started for one.
    pub(crate) fn of_this_process() -> Option<Self> {
        let mut words = env::args().skip(1);
        let role = words.next()?;
        let mut word = || words.next();
        Some(match role.as_str() {
            "serve" => Self::Serve { side: word()?, router: word() },
            "relay" => Self::Relay { side: word()?, server: word() },
            "run" => Self::Run { side: word()?, address: word()?, job: word()?.parse().ok()? },
            _ => return None,
        })
    }
}

/// Says where this process can be reached.
pub(crate) fn ready(address: impl ToString) {
    say("READY", &json!({ "address": address.to_string() }));
}

/// Says that it counts from now on.
pub(crate) fn warm() {
    say("WARM", &json!({}));
}

/// Says what came out, and waits for the end.
pub(crate) fn done(figures: &Value) -> ! {
    say("DONE", figures);
    stay()
}

/// Lets other threads work until the end.
pub(crate) fn stay() -> ! {
    loop {
        thread::park();
    }
}

fn say(word: &str, object: &Value) {
    println!("{word} {object}");
}

/// Ends this process once whoever started it has gone or has heard enough, and in any case after a while.
pub(crate) fn end_in_time() {
    let (told, ends) = mpsc::sync_channel::<()>(0);
    thread::spawn(move || {
        let _told_when_dropped = told;
        io::copy(&mut io::stdin(), &mut io::sink())
    });
    thread::spawn(move || {
        let lasted = ends.recv_timeout(LIFETIME) == Err(mpsc::RecvTimeoutError::Timeout);
        process::exit(i32::from(lasted));
    });
}

/// Far more than a turn takes.
const LIFETIME: Duration = Duration::from_secs(120);

//! The tables in the documents.

use std::{fs, io};

use cellnet_benches::built;

/// Puts figures between the markers of a document of this repository.
pub(crate) fn write(document: &str, figures: &str) -> io::Result<()> {
    let path = built::of_package(&format!("../{document}"));
    let text = fs::read_to_string(&path)?;
    let replaced = between(&text, figures)
        .ok_or_else(|| io::Error::other(format!("{document} has no {BEGIN} and {END}")))?;
    fs::write(path, replaced)?;
    println!("{document} has them");
    Ok(())
}

fn between(text: &str, figures: &str) -> Option<String> {
    let (before, rest) = text.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}\n{}\n{END}{after}", figures.trim_end()))
}

const BEGIN: &str = "<!-- figures: begin -->";
const END: &str = "<!-- figures: end -->";

//! The two ends of a copy, as people write them.

use std::{path::PathBuf, str::FromStr};

use cellnet::Fqcn;

use crate::cli::status::Failure;

/// `FILE`, `-`, or `TARGET[,TARGET…]:PATH`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Place {
    /// A file or a folder of this machine.
    Local(PathBuf),
    /// Standard input, or standard output.
    Standard,
    /// What stands under a path in the inbox of these cells.
    Remote { targets: Vec<Fqcn>, path: String },
}

impl FromStr for Place {
    type Err = String;

    /// Who has a file with a colon in its name writes `./a:b`, as for `scp`.
    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            _ if text == "-" => Ok(Self::Standard),
            _ if text.is_empty() => Err("a file needs a name".into()),
            Some((names, path)) if !names.contains('/') => {
                let targets =
                    names.split(',').map(|name| target(name, text)).collect::<Result<Vec<_>, _>>()?;
                if let Some(twice) =
                    targets.iter().enumerate().find(|(at, name)| targets[..*at].contains(name))
                {
                    return Err(format!("the target '{}' is named twice", twice.1));
                }
                Ok(Self::Remote { targets, path: path.to_owned() })
            }
            _ => Ok(Self::Local(text.into())),
        }
    }
}

fn target(name: &str, text: &str) -> Result<Fqcn, String> {
    name.parse().map_err(|error: cellnet::FqcnError| format!("{error}; a file of this name is './{text}'"))
}

/// What a copy is asked to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Job {
    Push(Push),
    Pull(Pull),
}

/// From here to cells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Push {
    pub(crate) from: Input,
    pub(crate) targets: Vec<Fqcn>,
    /// Where it goes in each inbox. A folder if it is empty or ends in `/`, else the name that it gets.
    pub(crate) path: String,
}

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Input {
    Files(Vec<PathBuf>),
    Stdin,
}

/// From a cell to here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Pull {
    pub(crate) target: Fqcn,
    pub(crate) path: String,
    /// The folder that it comes into; standard output if there is none.
    pub(crate) dir: Option<PathBuf>,
}

impl Job {
    /// Makes sense of all the places of a command line.
    pub(crate) fn of(places: &[Place]) -> Result<Self, Failure> {
        let Some((last, first)) = places.split_last().filter(|(_, first)| !first.is_empty()) else {
            return Err(Failure::usage("a copy has two ends; give FILE… TARGET:PATH, or TARGET:PATH DIR"));
        };
        match (first, last) {
            (_, Place::Remote { targets, path }) => {
                let (targets, path) = (targets.clone(), path.clone());
                let from = sent(first, &path)?;
                if from == Input::Stdin && targets.len() > 1 {
                    return Err(Failure::usage("standard input can be read once and goes to one cell"));
                }
                Ok(Self::Push(Push { from, targets, path }))
            }
            ([Place::Remote { targets, path }], _) => {
                let [target] = &targets[..] else {
                    return Err(Failure::usage(format!(
                        "a copy comes from one cell, not from {}; run it once for each",
                        targets.len()
                    )));
                };
                if path.is_empty() {
                    return Err(Failure::usage(format!("'{target}:' names no file; give TARGET:PATH")));
                }
                let dir = if let Place::Local(dir) = last { Some(dir.clone()) } else { None };
                Ok(Self::Pull(Pull { target: target.clone(), path: path.clone(), dir }))
            }
            _ => {
                let text =
                    "neither end of the copy is another cell; write TARGET:PATH for a path in its inbox";
                Err(Failure::usage(text))
            }
        }
    }

    /// Whether standard output is for the file.
    pub(crate) fn fills_stdout(&self) -> bool {
        matches!(self, Self::Pull(Pull { dir: None, .. }))
    }

    /// The other cells.
    pub(crate) fn targets(&self) -> &[Fqcn] {
        match self {
            Self::Push(push) => &push.targets,
            Self::Pull(pull) => std::slice::from_ref(&pull.target),
        }
    }
}

fn sent(first: &[Place], path: &str) -> Result<Input, Failure> {
    if let [Place::Standard] = first {
        if path.is_empty() || path.ends_with('/') {
            return Err(Failure::usage("standard input has no name of its own; give one, as in TARGET:NAME"));
        }
        return Ok(Input::Stdin);
    }
    let files = first.iter().map(|place| match place {
        Place::Local(file) => Ok(file.clone()),
        Place::Standard => Err(Failure::usage("standard input goes alone")),
        Place::Remote { targets, .. } => {
            let text = format!(
                "'{}' stands before the last place; a copy from cell to cell goes by way of a file",
                targets[0]
            );
            Err(Failure::usage(text))
        }
    });
    let files = files.collect::<Result<Vec<_>, _>>()?;
    if files.len() > 1 && !path.is_empty() && !path.ends_with('/') {
        return Err(Failure::usage(format!(
            "{} files cannot all be called '{path}'; write '{path}/' for a folder",
            files.len()
        )));
    }
    Ok(Input::Files(files))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(line: &str) -> Result<Job, String> {
        let places = line.split(' ').map(str::parse).collect::<Result<Vec<Place>, _>>()?;
        Job::of(&places).map_err(|failure| failure.to_string())
    }

    fn push(from: Input, targets: &[&str], path: &str) -> Result<Job, String> {
        let targets = targets.iter().map(|name| name.parse().unwrap()).collect();
        Ok(Job::Push(Push { from, targets, path: path.into() }))
    }

    fn pull(path: &str, dir: Option<&str>) -> Result<Job, String> {
        let target = "site-1".parse().unwrap();
        Ok(Job::Pull(Pull { target, path: path.into(), dir: dir.map(Into::into) }))
    }

    #[test]
    fn the_last_place_says_which_way_it_goes() {
        let files = |names: &[&str]| Input::Files(names.iter().map(Into::into).collect());
        assert_eq!(job("a site-1:b"), push(files(&["a"]), &["site-1"], "b"));
        assert_eq!(job("a ../b site-1:x/"), push(files(&["a", "../b"]), &["site-1"], "x/"));
        assert_eq!(job("a b site-1:"), push(files(&["a", "b"]), &["site-1"], ""));
        assert_eq!(job("- r.site-1:x/y:z"), push(Input::Stdin, &["r.site-1"], "x/y:z"));
        assert_eq!(job("./a:b site-1,r.site-2:"), push(files(&["./a:b"]), &["site-1", "r.site-2"], ""));
        assert_eq!(job("site-1:a/b ."), pull("a/b", Some(".")));
        assert_eq!(job("site-1:a -"), pull("a", None));
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        let table = [
            ("a", "two ends"),
            ("site-1:a", "two ends"),
            ("a b", "neither end"),
            ("- b", "neither end"),
            ("a b..c:d", "'b..c'"),
            ("a b site-1:c", "'c/'"),
            ("- site-1:", "name"),
            ("- a site-1:c/", "alone"),
            ("- site-1,site-2:c", "one cell"),
            ("site-1:a site-2:b", "'site-1'"),
            ("site-1,site-2:a b", "one cell"),
            ("a site-1,site-1:b", "'site-1' is named twice"),
            ("site-1: b", "'site-1:'"),
        ];
        for (line, named) in table {
            let text = job(line).expect_err(line);
            assert!(text.contains(named) && !text.contains('\n'), "{line}: {text}");
        }
    }

    #[test]
    fn a_file_whose_name_is_no_target_is_told_how_to_be_one() {
        let error = "a b:c".parse::<Place>().unwrap_err();
        assert!(error.contains("'./a b:c'"), "{error}");
    }
}

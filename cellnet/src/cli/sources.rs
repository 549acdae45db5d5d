//! Where a value comes from: a flag beats the environment, which beats the configuration file.
//!
//! That holds for whole groups of flags of which a command uses one: who gives `--relay` does not want `CELLNET_ROOT`.

use std::{collections::BTreeSet, ffi::OsString};

use clap::{Arg, ArgAction, ArgMatches, Command, parser::ValueSource};

/// What the environment and the file may not set, because a better source has spoken.
#[derive(Debug, Default)]
pub(crate) struct Silent {
    command: String,
    environment: BTreeSet<&'static str>,
    file: BTreeSet<&'static str>,
}

impl Silent {
    /// Nothing given on this line, or in the environment, lets the other members of its group speak below.
    pub(crate) fn of(command: &Command, line: &ArgMatches) -> Self {
        let Some((name, given)) = chosen(line) else { return Self::default() };
        let sub = find(command, &name).expect("clap found it");
        let mut silent = Self { command: name.clone(), ..Self::default() };
        for (_, group) in GROUPS.iter().filter(|(command, _)| *command == name) {
            let flags = |id: &&str| given.value_source(id) == Some(ValueSource::CommandLine);
            let set = |id: &&str| sub.get_arguments().any(|arg| arg.get_id() == *id && is_set(arg));
            if group.iter().any(flags) {
                silent.environment.extend(group.iter().filter(|id| !flags(id)));
                silent.file.extend(group.iter().filter(|id| !flags(id)));
            } else if group.iter().any(set) {
                silent.file.extend(group.iter().filter(|id| !set(id)));
            }
        }
        silent
    }

    /// The root of the network has nobody above, whatever is common to all commands. Whether that changes anything.
    pub(crate) fn root_has_nobody_above(&mut self, matches: &ArgMatches) -> bool {
        let Some((name, serve)) = chosen(matches) else { return false };
        if !ROOTS.contains(&name.as_str()) {
            return false;
        }
        let is_root = serve.get_one::<cellnet::Fqcn>("name").is_some_and(cellnet::Fqcn::is_server);
        let common = |id: &&str| {
            matches!(serve.value_source(id), Some(ValueSource::EnvVariable | ValueSource::DefaultValue))
        };
        let above: Vec<_> = ["root", "parent"].into_iter().filter(common).collect();
        if !is_root || above.is_empty() {
            return false;
        }
        self.environment.extend(&above);
        self.file.extend(&above);
        true
    }

    /// Whether the file may set this flag of this command.
    pub(crate) fn lets_file(&self, command: &str, id: &str) -> bool {
        self.command != command || !self.file.contains(id)
    }

    /// Takes away what the environment may not set.
    pub(crate) fn quiet(&self, command: Command) -> Command {
        if self.environment.is_empty() {
            return command;
        }
        let own = |arg: Arg| {
            if self.environment.contains(arg.get_id().as_str()) { without_environment(arg) } else { arg }
        };
        change(command, &self.command, |sub| sub.mut_args(own))
    }
}

/// Flags of which a command uses one.
const GROUPS: [(&str, &[&str]); 4] = [
    ("pipe", &["root", "cp", "relay"]),
    ("pipe", &["echo", "send"]),
    ("pipe", &["size", "file"]),
    ("bench run", &["connect", "via"]),
];

/// Commands that can be the root of the network.
const ROOTS: [&str; 2] = ["serve", "bench serve"];

/// The command that was chosen, by its name as people write it: `serve`, or `bench serve`.
fn chosen(matches: &ArgMatches) -> Option<(String, &ArgMatches)> {
    let (first, mut found) = matches.subcommand()?;
    let mut name = first.to_owned();
    while let Some((part, below)) = found.subcommand() {
        name = format!("{name} {part}");
        found = below;
    }
    Some((name, found))
}

/// The command with a name as people write it.
pub(crate) fn find<'c>(command: &'c Command, name: &str) -> Option<&'c Command> {
    name.split(' ').try_fold(command, |command, part| command.find_subcommand(part))
}

/// Changes the command with a name as people write it.
pub(crate) fn change(command: Command, name: &str, what: impl FnOnce(Command) -> Command) -> Command {
    match name.split_once(' ') {
        None => command.mut_subcommand(name, what),
        Some((first, rest)) => command.mut_subcommand(first, |sub| change(sub, rest, what)),
    }
}

/// The command as the line alone sets it; the flags of the program itself keep their environment.
pub(crate) fn line_only(command: Command) -> Command {
    below(command, without_environment)
}

/// Changes the arguments of all subcommands.
fn below(command: Command, what: fn(Arg) -> Arg) -> Command {
    command.mut_subcommands(|sub| below(sub.mut_args(what), what))
}

/// Variables that are empty count as not set.
pub(crate) fn without_empty(command: Command) -> Command {
    let keep: fn(Arg) -> Arg = |arg| match value(&arg) {
        Some(value) if value.is_empty() => without_environment(arg),
        _ => arg,
    };
    below(command.mut_args(keep), keep)
}

fn without_environment(arg: Arg) -> Arg {
    arg.env(None::<&'static str>)
}

fn value(arg: &Arg) -> Option<OsString> {
    std::env::var_os(arg.get_env()?)
}

/// Whether the environment sets a flag; a switch that it turns off is not set.
fn is_set(arg: &Arg) -> bool {
    let Some(value) = value(arg) else { return false };
    let off = ["n", "no", "f", "false", "off", "0"];
    let is_off = |value: &str| off.contains(&value.to_ascii_lowercase().as_str());
    !(matches!(arg.get_action(), ArgAction::SetTrue) && value.to_str().is_some_and(is_off))
}

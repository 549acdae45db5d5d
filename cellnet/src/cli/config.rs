//! The configuration file: values for flags, below the environment and above the defaults.
//!
//! ```toml
//! root = "tcp://server.example:8002"    # for every command that has this flag
//!
//! [serve]                               # for one command
//! name = "site-1"
//! echo = ["task"]
//!
//! [bench.run]                           # for one of several
//! size = "1MiB"
//! ```

use std::{collections::BTreeMap, fs, io, path::Path};

use clap::{Arg, ArgAction, Command};
use toml::{Table, Value};

use super::sources::{Silent, change, find};

/// Makes the values of a file the defaults of their flags, except those that it may not set.
pub(crate) fn apply(command: Command, path: &Path, silent: &Silent) -> Result<Command, ConfigError> {
    apply_text(command, &fs::read_to_string(path)?, silent)
}

/// Why a configuration file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot be read: {0}")]
    Read(#[from] io::Error),
    #[error("not TOML at line {line}: {text}")]
    Toml { line: usize, text: String },
    #[error("'{0}' is not a flag of {1}")]
    Unknown(String, String),
    #[error("'{0}' has a value that is neither text nor number nor true or false nor a list of them")]
    Kind(String),
    #[error("'{key}' cannot be used: {text}")]
    Value { key: String, text: String },
}

fn apply_text(mut command: Command, text: &str, silent: &Silent) -> Result<Command, ConfigError> {
    let table: Table = text.parse().map_err(|error: toml::de::Error| ConfigError::Toml {
        line: error.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1),
        text: error.message().to_owned(),
    })?;
    let (tables, common): (Table, Table) = table.into_iter().partition(|(_, value)| value.is_table());
    let globals: Vec<String> = command.get_arguments().filter_map(long).collect();
    let mut used: Vec<String> = Vec::new();
    for (key, value) in common.iter().filter(|(key, _)| globals.contains(key)) {
        used.push(key.clone());
        command = preset(command, key, value)?;
    }
    let mut names = Vec::new();
    let own = gather(&command, "", tables, &mut names)?;
    // A flag may have the same name in two commands and take other values in each.
    let mut refused: BTreeMap<String, ConfigError> = BTreeMap::new();
    for name in names {
        let sub = find(&command, &name).expect("the name was listed");
        let flags: Vec<String> = sub.get_arguments().filter_map(long).collect();
        let common = common.iter().filter(|(key, _)| flags.contains(key));
        let mut values: BTreeMap<&String, &Value> = BTreeMap::new();
        for (key, value) in common {
            match preset(sub.clone(), key, value) {
                Ok(_) => {
                    used.push(key.clone());
                    values.insert(key, value);
                }
                Err(error) => {
                    refused.entry(key.clone()).or_insert(error);
                }
            }
        }
        if let Some(own) = own.get(&name) {
            if let Some(key) = own.keys().find(|key| !flags.contains(key)) {
                return Err(ConfigError::Unknown(key.clone(), format!("'{name}'")));
            }
            values.extend(own);
        }
        for (key, value) in values {
            if !silent.lets_file(&name, key) {
                preset(find(&command, &name).expect("the name was listed").clone(), key, value)?;
                continue;
            }
            command = try_mut_subcommand(command, &name, |sub| preset(sub, key, value))?;
        }
    }
    match common.keys().find(|key| !used.contains(key)) {
        Some(key) => {
            let unknown = || ConfigError::Unknown(key.clone(), "any command".into());
            Err(refused.remove(key).unwrap_or_else(unknown))
        }
        None => Ok(command),
    }
}

/// Lists the commands that do something, by their names as people write them, and gives the tables of those that have
/// one.
fn gather(
    command: &Command,
    front: &str,
    tables: Table,
    names: &mut Vec<String>,
) -> Result<BTreeMap<String, Table>, ConfigError> {
    let mut own = BTreeMap::new();
    let mut tables: BTreeMap<String, Value> = tables.into_iter().collect();
    let known: Vec<&str> = command.get_subcommands().map(Command::get_name).collect();
    if let Some(name) = tables.keys().find(|name| !known.contains(&name.as_str())) {
        let whole = if front.is_empty() { "cellnet" } else { front.trim_end() };
        let text = format!("{whole}, nor a command ({})", known.join(", "));
        return Err(ConfigError::Unknown(name.clone(), text));
    }
    for sub in command.get_subcommands() {
        let name = format!("{front}{}", sub.get_name());
        let table = match tables.remove(sub.get_name()) {
            Some(Value::Table(table)) => Some(table),
            Some(_) => {
                return Err(ConfigError::Unknown(sub.get_name().into(), format!("'{}'", front.trim_end())));
            }
            None => None,
        };
        if sub.has_subcommands() {
            own.extend(gather(sub, &format!("{name} "), table.unwrap_or_default(), names)?);
        } else {
            own.extend(table.map(|table| (name.clone(), table)));
            names.push(name);
        }
    }
    Ok(own)
}

/// The long name of a flag that a file may set.
fn long(arg: &Arg) -> Option<String> {
    let name = arg.get_long()?;
    (!matches!(name, "config" | "help" | "version" | "verbose")).then(|| name.to_owned())
}

fn try_mut_subcommand(
    command: Command,
    name: &str,
    change: impl FnOnce(Command) -> Result<Command, ConfigError>,
) -> Result<Command, ConfigError> {
    let mut failed = None;
    let command = self::change(command, name, |sub| {
        let before = sub.clone();
        change(sub).unwrap_or_else(|error| {
            failed = Some(error);
            before
        })
    });
    failed.map_or(Ok(command), Err)
}

/// Makes a value the default of a flag, if the flag takes it.
fn preset(command: Command, key: &str, value: &Value) -> Result<Command, ConfigError> {
    let arg =
        command.get_arguments().find(|arg| arg.get_long() == Some(key)).expect("the flag was listed").clone();
    if matches!(arg.get_action(), ArgAction::SetTrue) {
        let Value::Boolean(on) = *value else {
            return Err(ConfigError::Value { key: key.into(), text: "write true or false".into() });
        };
        let id = arg.get_id().clone();
        return Ok(command.mut_arg(id, |arg| arg.default_value(if on { "true" } else { "false" })));
    }
    let texts = texts(key, value)?;
    // Defaults are not checked the way flags are, so the flag is tried on its own.
    let line = texts.iter().map(|text| format!("--{key}={text}"));
    let tried = Command::new("config").no_binary_name(true).arg(arg.clone()).try_get_matches_from(line);
    if let Err(error) = tried {
        let text = super::one_line(&error).trim_end_matches("; see --help").to_owned();
        return Err(ConfigError::Value { key: key.into(), text });
    }
    let id = arg.get_id().clone();
    Ok(command.mut_arg(id, |arg| arg.default_values(texts)))
}

fn texts(key: &str, value: &Value) -> Result<Vec<String>, ConfigError> {
    Ok(match value {
        Value::String(text) => vec![text.clone()],
        Value::Integer(number) => vec![number.to_string()],
        Value::Float(number) => vec![number.to_string()],
        Value::Array(items) => {
            let parts: Result<Vec<_>, _> = items.iter().map(|item| texts(key, item)).collect();
            parts?.concat()
        }
        _ => return Err(ConfigError::Kind(key.into())),
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::{super::Cli, *};

    fn matches(text: &str, line: &str) -> clap::ArgMatches {
        let command = apply_text(Cli::command(), text, &Silent::default()).unwrap();
        let matches = command.try_get_matches_from(line.split(' ')).unwrap();
        matches.subcommand().unwrap().1.clone()
    }

    fn refused(text: &str) -> String {
        apply_text(Cli::command(), text, &Silent::default()).unwrap_err().to_string()
    }

    fn count(text: &str, line: &str) -> u64 {
        *matches(text, line).get_one("count").unwrap()
    }

    #[test]
    fn a_flag_beats_the_file_and_the_file_beats_the_default() {
        assert_eq!(count("", "cellnet call server c t"), 1);
        assert_eq!(count("count = 5", "cellnet call server c t"), 5);
        assert_eq!(count("count = 5\n[call]\ncount = 7", "cellnet call server c t"), 7);
        assert_eq!(count("count = 5\n[call]\ncount = 7", "cellnet call server c t --count 9"), 9);
    }

    #[test]
    fn one_of_several_commands_has_a_table_in_a_table() {
        let size = |text: &str, line: &str| {
            let bench = matches(text, line);
            *bench.subcommand().unwrap().1.get_one::<usize>("size").unwrap()
        };
        let run = "cellnet bench run";
        assert_eq!(size("", run), 64);
        assert_eq!(size("size = 5", run), 5);
        assert_eq!(size("size = 5\n[bench.run]\nsize = '1KiB'", run), 1024);
        assert_eq!(size("[bench.run]\nsize = 7", "cellnet bench run --size 9"), 9);
    }

    #[test]
    fn lists_and_switches_are_read() {
        let text = "json = true\n[serve]\necho = ['a', 'b']";
        let serve = matches(text, "cellnet serve");
        assert_eq!(serve.get_many::<String>("echo").unwrap().collect::<Vec<_>>(), ["a", "b"]);
        assert!(serve.get_flag("json"));
        assert!(!matches("json = false", "cellnet serve").get_flag("json"));
    }

    #[test]
    fn a_common_value_is_for_the_commands_that_can_take_it() {
        let serve = matches("echo = ['task']", "cellnet serve");
        assert_eq!(serve.get_many::<String>("echo").unwrap().collect::<Vec<_>>(), ["task"]);
        assert!(!matches("echo = ['task']", "cellnet pipe").get_flag("echo"));
    }

    #[test]
    fn mistakes_are_named() {
        let table = [
            ("colour = 1", "'colour'"),
            ("[fly]", "'fly'"),
            ("[serve]\ncount = 1", "'count'"),
            ("[bench]\nsize = 1", "'size'"),
            ("[bench]\nrun = 1", "'run'"),
            ("[bench.fly]", "'fly'"),
            ("[bench.run]\ncount = 1", "'count'"),
            ("[call]\ncount = 'many'", "'many'"),
            ("root = 'nowhere'", "'nowhere'"),
            ("json = 1", "'json'"),
            ("count = 1979-05-27", "'count'"),
            ("config = 'x'", "'config'"),
            ("a = 1\nb", "line 2"),
        ];
        for (text, named) in table {
            let error = refused(text);
            assert!(error.contains(named) && !error.contains('\n'), "{text}: {error}");
        }
    }
}

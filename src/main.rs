//! The command line. Each command is a file under commands/.

#![deny(unsafe_code)]
// They panic where nobody reads any more; see commands/output.rs.
#![deny(clippy::print_stdout, clippy::print_stderr)]

mod commands;

use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use commands::{ending, output};

/// Keeps a growing collection of faces clustered by identity while they arrive.
#[derive(Parser)]
#[command(name = "facetd", version, about, long_about = None, propagate_version = true, after_help = after_help())]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

fn after_help() -> String {
    let examples = "Examples:
  facetd demo
  facetd check --config /etc/facetd/facetd.toml
  facetd run --config /etc/facetd/facetd.toml
  facetd top";
    let output = "Answers are on standard output, with --json as JSON; notes, progress and logs on standard error.";
    format!("{examples}\n\n{output}\n\n{}", ending::CODES)
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon
    Run(commands::run::Arguments),
    /// Broker, sample stream and daemon in one process, with scores at the end
    Demo(commands::demo::Arguments),
    /// What would happen with this configuration on this machine: a line each, non-zero when one is wrong
    Check(commands::check::Arguments),
    /// Watch a running daemon in a terminal
    Top(commands::top::Arguments),
    /// Cluster a file of features in one batch, as the paper does
    Cluster(commands::cluster::Arguments),
    /// Pairwise F, BCubed F and NMI of predicted labels
    Evaluate(commands::evaluate::Arguments),
    /// Send a file of features into a Kafka topic
    Replay(commands::replay::Arguments),
    /// Send the records of dead letters again
    Redrive(commands::redrive::Arguments),
    /// Make face-like embeddings with labels
    Synth(commands::synth::Arguments),
    /// Read the state of a stopped daemon
    Inspect(commands::inspect::Arguments),
    /// Erase faces, a cluster or a collection from the state of a stopped daemon
    Erase(commands::erase::Arguments),
    /// Let erased faces come back
    Allow(commands::allow::Arguments),
    /// Say that two faces are one person
    MustLink(commands::constrain::Say),
    /// Say that two faces are never one person
    CannotLink(commands::constrain::Say),
    /// Take back what was said of two faces
    Release(commands::constrain::TakeBack),
    /// Pin and name a cluster
    Describe(commands::describe::Arguments),
    /// Write the state of a stopped daemon anew, without what was erased
    Compact(commands::compact::Arguments),
    /// Cluster the faces of a stopped daemon anew with another model or threshold
    Recluster(commands::recluster::Arguments),
    /// Print the completions of a shell
    Completions(commands::completions::Arguments),
    /// Write the man pages
    Man(commands::man::Arguments),
    /// Make a token for the API
    Token(commands::token::Arguments),
    /// Copy the state, of a running daemon too
    Backup(commands::backup::Backup),
    /// Put a backup in the place of an empty state
    Restore(commands::backup::Restore),
}

fn main() -> ExitCode {
    #[cfg(feature = "failpoints")]
    let _failpoints = fail::FailScenario::setup();
    let command = CommandLine::parse().command;
    match run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::note(format_args!("facetd: {}", told_once(&error)));
            ExitCode::from(ending::code(&error))
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    // These have an end of their own.
    if !matches!(command, Command::Run(_) | Command::Demo(_) | Command::Redrive(_) | Command::Top(_)) {
        ending::on_interrupt()?;
    }
    match command {
        Command::Run(arguments) => commands::run::run(&arguments),
        Command::Demo(arguments) => commands::demo::run(&arguments),
        Command::Check(arguments) => commands::check::run(&arguments),
        Command::Top(arguments) => commands::top::run(&arguments),
        Command::Cluster(arguments) => commands::cluster::run(&arguments),
        Command::Evaluate(arguments) => commands::evaluate::run(&arguments),
        Command::Replay(arguments) => commands::replay::run(&arguments),
        Command::Redrive(arguments) => commands::redrive::run(&arguments),
        Command::Synth(arguments) => commands::synth::run(&arguments),
        Command::Inspect(arguments) => commands::inspect::run(&arguments),
        Command::Erase(arguments) => commands::erase::run(&arguments),
        Command::Allow(arguments) => commands::allow::run(&arguments),
        Command::MustLink(arguments) => commands::constrain::must_link(&arguments),
        Command::CannotLink(arguments) => commands::constrain::cannot_link(&arguments),
        Command::Release(arguments) => commands::constrain::release(&arguments),
        Command::Describe(arguments) => commands::describe::run(&arguments),
        Command::Compact(arguments) => commands::compact::run(&arguments),
        Command::Recluster(arguments) => commands::recluster::run(&arguments),
        Command::Backup(arguments) => commands::backup::backup(&arguments),
        Command::Restore(arguments) => commands::backup::restore(&arguments),
        Command::Completions(arguments) => commands::completions::run(&arguments, &mut CommandLine::command()),
        Command::Token(arguments) => commands::token::run(&arguments),
        Command::Man(arguments) => commands::man::run(&arguments, CommandLine::command()),
    }
}

/// An error and its causes, but for those whose text an outer one already gives.
fn told_once(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1).map(ToString::to_string) {
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The command lines of facetd that an example consists of.
    fn parts(example: &str) -> Vec<Vec<String>> {
        // What stands far behind says what it is good for.
        let example = example.trim().split("    ").next().unwrap_or_default();
        let mut words: Vec<String> = Vec::new();
        let mut quoted = false;
        let mut word = None;
        for character in example.chars() {
            match character {
                '\'' => {
                    quoted = !quoted;
                    word.get_or_insert_with(String::new);
                }
                ' ' if !quoted => words.extend(word.take()),
                other => word.get_or_insert_with(String::new).push(other),
            }
        }
        words.extend(word);
        let commands = words.split(|word| ["&&", "|"].contains(&word.as_str()));
        let commands = commands.map(|words| {
            let is_variable = |word: &&String| word.starts_with("FACETD_");
            let words = words.iter().skip_while(is_variable).filter(|word| !word.starts_with('>'));
            words.cloned().collect::<Vec<String>>()
        });
        commands.filter(|words| words.first().is_some_and(|word| word == "facetd")).collect()
    }

    fn examples(command: &clap::Command) -> Vec<String> {
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        let lines = after.lines().skip_while(|line| !line.starts_with("Example")).skip(1);
        let own = lines.take_while(|line| line.starts_with("  ")).map(str::to_string);
        own.chain(command.get_subcommands().flat_map(examples)).collect()
    }

    #[test]
    fn every_command_has_examples_and_each_is_one() {
        let program = CommandLine::command();
        for command in program.get_subcommands() {
            assert!(!examples(command).is_empty(), "{} has no example", command.get_name());
        }
        for example in examples(&program) {
            let parts = parts(&example);
            assert!(!parts.is_empty(), "{example}");
            for words in parts {
                if let Err(error) = CommandLine::try_parse_from(&words) {
                    // Help and version are errors of clap's.
                    assert!(!error.use_stderr(), "{example}: {error}");
                }
            }
        }
    }

    #[test]
    fn the_command_line_is_one_that_clap_takes() {
        CommandLine::command().debug_assert();
    }
}

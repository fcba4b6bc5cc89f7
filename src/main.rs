//! The command line. Each command is a file under commands/.

#![deny(unsafe_code)]

mod commands;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// Keeps a growing collection of faces clustered by identity while they arrive.
#[derive(Parser)]
#[command(name = "facetd", version, about, long_about = None, propagate_version = true)]
struct CommandLine {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the daemon
    Run(commands::run::Arguments),
    /// Broker, sample stream and daemon in one process, with scores at the end
    Demo(commands::demo::Arguments),
    /// Check configuration, model, state and broker: a line each, non-zero when one is wrong
    Check(commands::check::Arguments),
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
    let outcome = match CommandLine::parse().command {
        Command::Run(arguments) => commands::run::run(&arguments),
        Command::Demo(arguments) => commands::demo::run(&arguments),
        Command::Check(arguments) => commands::check::run(&arguments),
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
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody may be listening any more.
            let _ = writeln!(std::io::stderr(), "facetd: {}", told_once(&error));
            ExitCode::FAILURE
        }
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

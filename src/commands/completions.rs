//! `facetd completions`: what a shell needs to complete facetd's commands.

use clap::{Args, Command};
use clap_complete::Shell;

#[derive(Args)]
pub struct Arguments {
    /// The shell
    shell: Shell,
}

pub fn run(arguments: &Arguments, command: &mut Command) -> anyhow::Result<()> {
    clap_complete::generate(arguments.shell, command, "facetd", &mut std::io::stdout());
    Ok(())
}

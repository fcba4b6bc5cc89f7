//! `facetd completions`: what a shell needs to complete facetd's commands.

use clap::{Args, Command};
use clap_complete::Shell;

use super::output::written;

#[derive(Args)]
#[command(after_help = "Examples:
  facetd completions bash >/usr/share/bash-completion/completions/facetd
  facetd completions zsh >~/.zfunc/_facetd
  facetd completions fish >~/.config/fish/completions/facetd.fish")]
pub struct Arguments {
    /// The shell
    shell: Shell,
}

pub fn run(arguments: &Arguments, command: &mut Command) -> anyhow::Result<()> {
    // It panics where it cannot write.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, command, "facetd", &mut script);
    written(|out| out.write_all(&script))
}

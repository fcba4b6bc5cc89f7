//! `facetd top`: a running daemon as it works, in a terminal. Elsewhere one look at it.

mod asking;
mod figures;
mod prometheus;
mod screen;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::Args;
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use asking::Daemon;
use figures::Figures;
use screen::Screen;

use super::ending::Interrupted;
use super::output::Output;
use super::progress;

/// How often it is drawn, and how long a key waits at most.
const TURN: Duration = Duration::from_millis(200);

#[derive(Args)]
#[command(after_help = "Examples:
  facetd top
  facetd top --url https://faces.example:9464 --token-file ~/.config/facetd/token
  facetd top --json | jq .lag_records

Reads /metrics, and with a token that may read it, what changes in the collection with the most faces. The token is
the file's, or FACETD_TOKEN of the environment. Of https:// the system's certificate authorities are trusted, or those
of SSL_CERT_FILE. Where standard output is no terminal, and with --json, it looks twice within a second, says what it
saw, latencies since the daemon's start, and ends.")]
pub struct Arguments {
    /// Where the daemon listens: its http.listen
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:9464")]
    url: String,
    /// File with a token, as `facetd token` printed it
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    #[command(flatten)]
    output: Output,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let daemon = Daemon::new(&arguments.url, token(arguments.token_file.as_deref())?);
    match arguments.output.is_json() || !std::io::stdout().is_terminal() {
        true => once(&daemon, arguments.output),
        false => live(&daemon),
    }
}

fn token(file: Option<&Path>) -> anyhow::Result<Option<String>> {
    let text = match file {
        Some(file) => {
            std::fs::read_to_string(file).with_context(|| format!("cannot read the token in {}", file.display()))?
        }
        None => std::env::var("FACETD_TOKEN").unwrap_or_default(),
    };
    Ok(Some(text.trim().to_string()).filter(|token| !token.is_empty()))
}

fn once(daemon: &Daemon, output: Output) -> anyhow::Result<()> {
    let busy = progress::busy("looking");
    let before = daemon.look()?;
    std::thread::sleep(asking::EVERY);
    let now = daemon.look()?;
    drop(busy);
    output.answer(&Figures::of(&daemon.url, &now, &before, None))
}

fn live(daemon: &Daemon) -> anyhow::Result<()> {
    // Whatever ends it, the terminal is given back first.
    let signalled = Arc::new(AtomicUsize::new(0));
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register_usize(signal, signalled.clone(), signal as usize)
            .context("cannot listen for signals")?;
    }
    let terminal = ratatui::try_init().context("the terminal cannot be drawn on")?;
    let outcome = show(terminal, daemon, &signalled);
    ratatui::restore();
    outcome
}

fn show(mut terminal: DefaultTerminal, daemon: &Daemon, signalled: &AtomicUsize) -> anyhow::Result<()> {
    let heard = daemon.ask();
    let mut screen = Screen::new(&daemon.url);
    loop {
        heard.try_iter().for_each(|heard| screen.hear(heard));
        terminal.draw(|frame| screen.draw(frame))?;
        // A signal ends the wait.
        if event::poll(TURN).unwrap_or(false) && is_end(&event::read()?) {
            return Ok(());
        }
        match signalled.load(Ordering::Relaxed) {
            0 => {}
            signal => return Err(Interrupted { signal: signal as i32, said: "interrupted".to_string() }.into()),
        }
    }
}

fn is_end(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    let is_control_c = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && (is_control_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}

//! A daemon's figures on a terminal of 80 columns and 24 rows or more; with less, what comes last is cut.

use std::collections::VecDeque;
use std::time::Instant;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Paragraph, Row, Sparkline, Table};

use super::asking::Heard;
use super::figures::{Figures, Look, rounded};

/// What latencies are of, and the curve of the input, in looks: a minute.
const HELD: usize = 60;
const CHANGES: usize = 200;

/// All that was heard.
pub struct Screen {
    url: String,
    looks: VecDeque<Look>,
    figures: Option<Figures>,
    /// Records a second at each look.
    rates: VecDeque<u64>,
    /// Since when it does not answer, and why.
    gone: Option<(Instant, String)>,
    feed: String,
    changes: VecDeque<String>,
}

impl Screen {
    pub fn new(url: &str) -> Screen {
        Screen {
            url: url.to_string(),
            looks: VecDeque::new(),
            figures: None,
            rates: VecDeque::new(),
            gone: None,
            feed: String::new(),
            changes: VecDeque::new(),
        }
    }

    pub fn hear(&mut self, heard: Heard) {
        match heard {
            Heard::Metrics(look) => self.looked(*look),
            Heard::Gone(why) => match &mut self.gone {
                Some((_, told)) => *told = why,
                gone => *gone = Some((Instant::now(), why)),
            },
            Heard::Feed(whose) => self.feed = whose,
            Heard::Change(change) => {
                self.changes.push_front(change);
                self.changes.truncate(CHANGES);
            }
        }
    }

    fn looked(&mut self, look: Look) {
        let started = |look: &Look| look.samples.sum("process_start_time_seconds");
        // One that was started anew counts anew.
        if self.looks.back().is_some_and(|last| started(last) != started(&look)) {
            self.looks.clear();
        }
        self.gone = None;
        let last = self.looks.back().unwrap_or(&look);
        let figures = Figures::of(&self.url, &look, last, self.looks.front());
        if !self.looks.is_empty() {
            self.rates.push_back(figures.records_per_second as u64);
        }
        self.figures = Some(figures);
        self.looks.push_back(look);
        if self.looks.len() > HELD {
            self.looks.pop_front();
        }
        if self.rates.len() > HELD {
            self.rates.pop_front();
        }
    }

    pub fn draw(&self, frame: &mut Frame) {
        let latencies = 2 + self.figures.as_ref().map_or(10, |figures| figures.stages.len() as u16);
        let rows = [
            Constraint::Length(1),
            Constraint::Length(6),
            Constraint::Length(latencies),
            Constraint::Min(2),
            Constraint::Length(1),
        ];
        let [title, figures, stages, changes, keys] = Layout::vertical(rows).areas(frame.area());
        self.draw_title(frame, title);
        if let Some(shown) = &self.figures {
            let halves = Layout::horizontal([Constraint::Percentage(50), Constraint::Percentage(50)]);
            let [left, right] = halves.areas(figures);
            self.draw_input(frame, left, shown);
            draw_pairs(frame, right, "held", &shown.held());
            let [left, right] =
                Layout::horizontal([Constraint::Percentage(63), Constraint::Percentage(37)]).areas(stages);
            draw_latencies(frame, left, shown);
            draw_events(frame, right, shown);
        }
        let told = self.changes.iter().take(changes.height.into()).map(|change| Line::from(change.as_str()));
        let told = Paragraph::new(told.collect::<Vec<_>>()).block(block(format!("changes {}", self.feed)));
        frame.render_widget(told, changes);
        frame.render_widget(Paragraph::new("q or Ctrl-C leaves").style(faint()), keys);
    }

    fn draw_title(&self, frame: &mut Frame, area: Rect) {
        let title = match (&self.gone, &self.figures) {
            (Some((since, why)), _) => {
                let told = format!("gone for {} s, trying on: {why}", since.elapsed().as_secs());
                Span::styled(told, Style::new().fg(Color::Red).add_modifier(Modifier::BOLD))
            }
            (None, Some(figures)) => Span::raw(format!("{}  {}", figures.title(), self.url)),
            (None, None) => Span::raw(format!("{} is being asked", self.url)),
        };
        frame.render_widget(Paragraph::new(Line::from(title)), area);
    }

    fn draw_input(&self, frame: &mut Frame, area: Rect, figures: &Figures) {
        let [pairs, curve] = Layout::vertical([Constraint::Length(5), Constraint::Min(0)]).areas(area);
        draw_pairs(frame, pairs, "in and out", &figures.input());
        let width = usize::from(curve.width);
        let newest: Vec<u64> = self.rates.iter().copied().rev().take(width).collect();
        let newest: Vec<u64> = newest.into_iter().rev().collect();
        frame.render_widget(Sparkline::default().data(newest).style(Style::new().fg(Color::Cyan)), curve);
    }
}

fn faint() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn block(title: impl Into<String>) -> Block<'static> {
    Block::new().borders(Borders::TOP).border_style(faint()).title(format!(" {} ", title.into().trim_end()))
}

fn draw_pairs(frame: &mut Frame, area: Rect, title: &str, pairs: &[(&str, String)]) {
    let line = |(name, value): &(&str, String)| {
        Line::from(vec![Span::styled(format!("{name:<12} "), faint()), Span::raw(value.clone())])
    };
    let lines: Vec<Line> = pairs.iter().map(line).collect();
    frame.render_widget(Paragraph::new(lines).block(block(title)), area);
}

fn draw_latencies(frame: &mut Frame, area: Rect, figures: &Figures) {
    let right = |cells: Vec<String>| {
        let cell = |(place, text): (usize, String)| match place {
            0 => Line::from(text),
            _ => Line::from(text).right_aligned(),
        };
        Row::new(cells.into_iter().enumerate().map(cell).collect::<Vec<Line>>())
    };
    let mut rows = figures.latencies().map(right);
    let head = rows.next().unwrap_or_default().style(faint());
    let widths = [17, 8, 8, 8, 6].map(Constraint::Length);
    frame.render_widget(
        Table::new(rows, widths).header(head).column_spacing(0).block(block("a minute's latencies")),
        area,
    );
}

fn draw_events(frame: &mut Frame, area: Rect, figures: &Figures) {
    let [events, letters] = Layout::vertical([Constraint::Length(8), Constraint::Min(0)]).areas(area);
    let pairs: Vec<(&str, String)> = figures
        .events()
        .map(|(kind, count)| (kind, format!("{:>9.0} {:>5}/s", count.total, rounded(count.per_second))))
        .collect();
    draw_pairs(frame, events, "events", &pairs);
    let told = Paragraph::new(figures.dead_letters()).wrap(ratatui::widgets::Wrap { trim: true });
    frame.render_widget(told.block(block("dead letters")), letters);
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::super::figures::tests::figures;
    use super::*;

    fn drawn(screen: &Screen, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol().to_string()).collect::<String>();
        (0..height).map(row).collect()
    }

    fn filled() -> Screen {
        let mut screen = Screen::new("http://127.0.0.1:9464");
        screen.figures = Some(figures());
        screen.hear(Heard::Feed("of lobby".to_string()));
        for number in 0..CHANGES + 5 {
            screen.hear(Heard::Change(format!("change {number}.")));
        }
        screen
    }

    #[test]
    fn all_of_it_fits_80_columns_and_24_rows() {
        let text = drawn(&filled(), 80, 24).join("\n");
        let words = [
            "facetd 0.1.0 on cpu",
            "ready",
            "2000 a second",
            "1234 records",
            "limit of memory reached",
            "3990 in 2100 clusters",
            "search",
            "record to commit",
            "p99 ms",
            "created",
            "2200  1100/s",
            "settled",
            "wrong_dimension 10",
            "changes of lobby",
            "change 204.",
            "q or Ctrl-C leaves",
        ];
        for word in words {
            assert!(text.contains(word), "{word:?} is not in\n{text}");
        }
    }

    #[test]
    fn any_size_can_be_drawn() {
        let screen = filled();
        for (width, height) in [(1, 1), (20, 5), (79, 23), (250, 80)] {
            assert_eq!(drawn(&screen, width, height).len(), usize::from(height));
        }
        let tall = drawn(&screen, 100, 60).join("\n");
        assert!(tall.contains("change 204.") && tall.contains("change 190."), "{tall}");
    }

    #[test]
    fn a_daemon_that_is_gone_is_said_to_be_and_its_last_figures_stay() {
        let mut screen = filled();
        screen.hear(Heard::Gone("http://127.0.0.1:9464 does not answer".to_string()));
        let text = drawn(&screen, 80, 24).join("\n");
        assert!(text.contains("gone for 0 s, trying on: http://127.0.0.1:9464 does not answer"), "{text}");
        assert!(text.contains("3990 in 2100 clusters"), "{text}");
        screen.hear(Heard::Metrics(Box::new(Look { at: Instant::now(), samples: Default::default() })));
        assert!(!drawn(&screen, 80, 24).join("\n").contains("gone"));
    }

    #[test]
    fn one_that_never_answered_is_being_asked() {
        let text = drawn(&Screen::new("http://127.0.0.1:9464"), 80, 24).join("\n");
        assert!(text.contains("is being asked"), "{text}");
    }
}

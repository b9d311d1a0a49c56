//! Where words go: data to stdout, all else to stderr. The only place of the command line that writes to either.

use std::{
    fmt::{self, Display},
    io::{self, BufWriter, Write},
};

/// Writes data and notes.
pub struct Printer {
    out: Box<dyn Write + Send>,
    err: Box<dyn Write + Send>,
}

impl fmt::Debug for Printer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Printer").finish_non_exhaustive()
    }
}

impl Printer {
    /// To stdout and stderr.
    #[must_use]
    pub fn standard() -> Self {
        Self::new(BufWriter::new(io::stdout()), io::stderr())
    }

    /// To somewhere else.
    pub fn new(out: impl Write + Send + 'static, err: impl Write + Send + 'static) -> Self {
        Self { out: Box::new(out), err: Box::new(err) }
    }

    /// A line of data.
    ///
    /// # Errors
    /// If it cannot be written, as when the reader went away.
    pub fn line(&mut self, text: impl Display) -> io::Result<()> {
        writeln!(self.out, "{text}")
    }

    /// Data that ends its own lines.
    ///
    /// # Errors
    /// As [`Printer::line`].
    pub fn text(&mut self, text: &str) -> io::Result<()> {
        self.out.write_all(text.as_bytes())
    }

    /// Makes data visible now; before every wait and at the end.
    ///
    /// # Errors
    /// As [`Printer::line`].
    pub fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// A line that is not data. Data written before it is seen before it.
    pub fn note(&mut self, text: impl Display) {
        // Without stderr there is nobody left to tell.
        let _unseen = self.out.flush().and_then(|()| writeln!(self.err, "{text}"));
    }
}

/// Text from outside without what would move a terminal's cursor or colour it; line breaks become spaces.
pub(super) fn one_line(text: &str) -> String {
    text.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

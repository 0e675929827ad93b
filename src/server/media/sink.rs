//! Writer with a limit for the bytes behind a reference.

use std::io::{self, Read, Write};

/// Limit in bytes, with its name for the error.
#[derive(Debug, Clone, Copy)]
pub(super) struct Most {
    pub(super) bytes: u64,
    pub(super) flag: &'static str,
}

/// Writer with a limit.
pub(super) struct Sink<'a> {
    out: &'a mut dyn Write,
    most: Most,
    left: u64,
    /// Error of the writing itself, for which the sender is not at fault.
    pub(super) failed: Option<io::Error>,
}

impl<'a> Sink<'a> {
    pub(super) fn new(out: &'a mut dyn Write, most: Most) -> Self {
        Self { out, most, left: most.bytes, failed: None }
    }

    /// # Errors
    /// One line if the limit is passed or the bytes cannot be written.
    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<(), String> {
        self.left = self.left.checked_sub(bytes.len() as u64).ok_or_else(|| {
            format!("more than {} bytes ({}); make it smaller", self.most.bytes, self.most.flag)
        })?;
        self.out.write_all(bytes).map_err(|error| {
            let line = format!("cannot be kept for reading ({error})");
            self.failed = Some(error);
            line
        })
    }

    /// Copies everything from `from`. `line` makes a line of its errors.
    ///
    /// # Errors
    /// As [`Sink::write`], and those of `from`.
    pub(super) fn take(
        &mut self,
        mut from: impl Read,
        line: impl Fn(io::Error) -> String,
    ) -> Result<(), String> {
        let mut piece = vec![0; 64 << 10];
        loop {
            match from.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(n) => self.write(&piece[..n])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(line(error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Full;

    impl Write for Full {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(io::ErrorKind::StorageFull.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn no_more_than_that() {
        let most = Most { bytes: 4, flag: "--max" };
        for (given, fits) in [("", true), ("abcd", true), ("abcde", false)] {
            let mut out = Vec::new();
            let taken = Sink::new(&mut out, most).take(given.as_bytes(), |error| error.to_string());
            assert_eq!(taken.is_ok(), fits, "{given}");
            if fits {
                assert_eq!(out, given.as_bytes());
            } else {
                assert!(taken.unwrap_err().contains("more than 4 bytes (--max)"));
            }
        }
        let mut full = Full;
        let mut sink = Sink::new(&mut full, most);
        assert!(sink.write(b"abc").is_err());
        assert!(sink.failed.is_some());
    }
}

//! Huffman-coded data of a JPEG scan, read for their lengths alone (ITU-T T.81, annexes F and G).

use super::Outcome;

/// The data end early.
pub(super) const CUT: &str = "cut short: its data end before the picture does; get the whole file";
/// The data contradict themselves.
pub(super) const DAMAGED: &str = "damaged: its data are no JPEG picture's; get the file again";

/// Codes of up to 16 bits and their symbols.
#[derive(Debug, Clone)]
pub(super) struct Table {
    /// Length and symbol by the next eight bits; a length of 0 stands for longer codes.
    short: [(u8, u8); 256],
    /// Above the last code of each length, and the symbol of its first code less that code.
    ends: [u32; 17],
    offsets: [i32; 17],
    symbols: Vec<u8>,
}

impl Table {
    /// `counts[i]` is the number of codes of i + 1 bits.
    ///
    /// # Errors
    /// [`DAMAGED`] for more codes than a length has.
    pub(super) fn new(counts: &[u8; 16], symbols: &[u8]) -> Outcome<Self> {
        let mut table =
            Self { short: [(0, 0); 256], ends: [0; 17], offsets: [0; 17], symbols: symbols.to_vec() };
        let (mut code, mut next) = (0u32, 0usize);
        for (length, &count) in (1usize..).zip(counts) {
            table.offsets[length] = i32::try_from(next).unwrap_or(0) - i32::try_from(code).unwrap_or(0);
            for &symbol in symbols.get(next..next + usize::from(count)).ok_or(DAMAGED)? {
                if code >> length != 0 {
                    return Err(DAMAGED.into());
                }
                if length <= 8 {
                    let first = (code << (8 - length)) as usize;
                    #[allow(clippy::cast_possible_truncation)]
                    table.short[first..first + (1 << (8 - length))].fill((length as u8, symbol));
                }
                code += 1;
            }
            next += usize::from(count);
            table.ends[length] = code;
            code <<= 1;
        }
        Ok(table)
    }
}

/// Reads bits of a scan up to the next marker, and the markers themselves.
pub(super) struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
    buffer: u64,
    count: u32,
    /// A marker or the end of the bytes was reached.
    ended: bool,
}

impl<'a> Bits<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0, buffer: 0, count: 0, ended: false }
    }

    /// The code of the next marker, after it; 0xff fills and 0xff 0x00 stands for a byte of data.
    pub(super) fn next_marker(&mut self) -> Option<u8> {
        while let Some(rest) = self.bytes.get(self.at..) {
            let found = rest.iter().position(|&byte| byte == 0xff)?;
            self.at += found + 1;
            match self.bytes.get(self.at) {
                Some(0xff) => {}
                Some(0) => self.at += 1,
                Some(&code) => {
                    self.at += 1;
                    return Some(code);
                }
                None => return None,
            }
        }
        None
    }

    /// The bytes of a segment after its length; `None` if they end early.
    pub(super) fn segment(&mut self) -> Option<&'a [u8]> {
        let length = self.bytes.get(self.at..self.at + 2)?;
        let length = usize::from(length[0]) << 8 | usize::from(length[1]);
        let payload = self.bytes.get(self.at + 2..self.at + length.max(2))?;
        self.at += length.max(2);
        Some(payload)
    }

    /// Starts a scan at the present byte.
    pub(super) fn begin(&mut self) {
        (self.buffer, self.count, self.ended) = (0, 0, false);
    }

    /// Passes the restart marker `number`.
    ///
    /// # Errors
    /// [`CUT`] if another marker or none follows; [`DAMAGED`] for a restart marker out of order.
    pub(super) fn restart(&mut self, number: u32) -> Outcome<()> {
        let expected = 0xd0 + number % 8;
        match self.next_marker().map(u32::from) {
            Some(code) if code == expected => {
                self.begin();
                Ok(())
            }
            Some(0xd0..=0xd7) => Err(DAMAGED.into()),
            _ => Err(CUT.into()),
        }
    }

    fn fill(&mut self) {
        while self.count <= 56 && !self.ended {
            let byte = match self.bytes.get(self.at..) {
                None | Some([] | [0xff]) => None,
                Some([0xff, 0, ..]) => {
                    self.at += 2;
                    Some(0xff)
                }
                Some([0xff, 0xff, ..]) => {
                    self.at += 1;
                    continue;
                }
                Some([0xff, ..]) => None,
                Some([byte, ..]) => {
                    self.at += 1;
                    Some(*byte)
                }
            };
            match byte {
                Some(byte) => {
                    self.buffer = self.buffer << 8 | u64::from(byte);
                    self.count += 8;
                }
                None => self.ended = true,
            }
        }
    }

    fn take(&mut self, count: u32) -> Outcome<u32> {
        if self.count < count {
            self.fill();
        }
        self.count = self.count.checked_sub(count).ok_or(CUT)?;
        let mask = (1u64 << count) - 1;
        Ok(u32::try_from(self.buffer >> self.count & mask).unwrap_or(0))
    }

    pub(super) fn skip(&mut self, count: u32) -> Outcome<()> {
        self.take(count).map(drop)
    }

    fn symbol(&mut self, table: &Table) -> Outcome<u8> {
        if self.count < 16 {
            self.fill();
        }
        let window = match self.count {
            0..16 => self.buffer << (16 - self.count),
            more => self.buffer >> (more - 16),
        };
        let window = u32::try_from(window & 0xffff).unwrap_or(0);
        let (length, symbol) = match table.short[(window >> 8) as usize] {
            (0, _) => {
                let long = |length: &usize| window >> (16 - length) < table.ends[*length];
                let missing = if self.count < 16 { CUT } else { DAMAGED };
                let length = (9..=16).find(long).ok_or(missing)?;
                let code = i32::try_from(window >> (16 - length)).unwrap_or(0);
                let place = usize::try_from(code + table.offsets[length]).map_err(|_| DAMAGED)?;
                (u32::try_from(length).unwrap_or(16), *table.symbols.get(place).ok_or(DAMAGED)?)
            }
            (length, symbol) => (u32::from(length), symbol),
        };
        self.count = self.count.checked_sub(length).ok_or(CUT)?;
        Ok(symbol)
    }

    /// The first coefficient of a block.
    pub(super) fn dc(&mut self, table: &Table) -> Outcome<()> {
        match self.symbol(table)? {
            bits @ 0..=16 => self.skip(u32::from(bits)),
            _ => Err(DAMAGED.into()),
        }
    }

    /// A whole block of a baseline scan.
    pub(super) fn block(&mut self, dc: &Table, ac: &Table) -> Outcome<()> {
        self.dc(dc)?;
        self.coefficients(ac, (1, 63), &mut 0).map(drop)
    }

    /// The coefficients `range` (both ends included) of a block, their first scan; `run` counts blocks that end at
    /// once, `nonzero` takes a bit for each coefficient.
    pub(super) fn ac_first(
        &mut self,
        table: &Table,
        range: (usize, usize),
        run: &mut u32,
        nonzero: &mut u64,
    ) -> Outcome<()> {
        if *run > 0 {
            *run -= 1;
        } else if let Some(bits) = self.coefficients(table, range, nonzero)? {
            *run = (1 << bits) - 1 + self.take(bits)?;
        }
        Ok(())
    }

    /// Coefficients up to the end of `range` or of the block; of the latter the bits of its run, which follow.
    fn coefficients(
        &mut self,
        table: &Table,
        (first, last): (usize, usize),
        nonzero: &mut u64,
    ) -> Outcome<Option<u32>> {
        let mut place = first;
        while place <= last {
            let symbol = self.symbol(table)?;
            match (symbol >> 4, symbol & 15) {
                (15, 0) => place += 16,
                (run, 0) => return Ok(Some(u32::from(run))),
                (zeros, bits) => {
                    place += usize::from(zeros);
                    if place > last {
                        return Err(DAMAGED.into());
                    }
                    self.skip(u32::from(bits))?;
                    *nonzero |= 1 << place;
                    place += 1;
                }
            }
        }
        Ok(None)
    }

    /// As [`Self::ac_first`], a scan that adds one bit to each coefficient (T.81, G.1.2.3).
    pub(super) fn ac_refine(
        &mut self,
        table: &Table,
        range: (usize, usize),
        run: &mut u32,
        nonzero: &mut u64,
    ) -> Outcome<()> {
        let mut place = range.0;
        if *run == 0 {
            while place <= range.1 {
                let symbol = self.symbol(table)?;
                let (mut zeros, bits) = (symbol >> 4, symbol & 15);
                match (zeros, bits) {
                    (15, 0) => {}
                    (_, 0) => {
                        *run = (1 << zeros) + self.take(u32::from(zeros))?;
                        break;
                    }
                    (_, 1) => self.skip(1)?,
                    _ => return Err(DAMAGED.into()),
                }
                // Corrections of what is not zero stand between; the new coefficient takes the zero after `zeros`.
                while place <= range.1 {
                    if *nonzero >> place & 1 == 1 {
                        self.skip(1)?;
                    } else if zeros == 0 {
                        break;
                    } else {
                        zeros -= 1;
                    }
                    place += 1;
                }
                if bits == 1 {
                    if place > range.1 {
                        return Err(DAMAGED.into());
                    }
                    *nonzero |= 1 << place;
                }
                place += 1;
            }
        }
        if *run > 0 {
            while place <= range.1 {
                self.skip(u32::try_from(*nonzero >> place & 1).unwrap_or(0))?;
                place += 1;
            }
            *run -= 1;
        }
        Ok(())
    }
}

//! The structure of a JPEG file (ITU-T T.81): its frame header, and whether its data reach the picture's end.
//!
//! The pixel decoder paints missing data grey and reports success. Each scan's Huffman codes are therefore read here
//! once, without computing pixels: data that end early, codes that do not exist and scans that are missing are errors.

use super::Outcome;
use super::huffman::{Bits, CUT, DAMAGED, Table};

/// Scans that one picture may have; encoders write at most 12, the pixel decoder reads 100.
const MAX_SCANS: u32 = 100;

#[derive(Debug, Clone, Copy)]
struct Component {
    id: u8,
    /// Sampling factors across and down.
    across: u32,
    down: u32,
}

/// The frame header.
#[derive(Debug, Clone)]
pub(super) struct Frame {
    pub width: u32,
    pub height: u32,
    progressive: bool,
    components: Vec<Component>,
}

impl Frame {
    /// Whether one channel comes out, and not three.
    pub(super) fn is_grey(&self) -> bool {
        self.components.len() == 1
    }

    /// Bytes that decoding holds beside the pixels: all coefficients of a progressive picture.
    pub(super) fn coefficient_bytes(&self) -> u64 {
        if !self.progressive {
            return 0;
        }
        (0..self.components.len())
            .map(|i| {
                let (across, down) = self.padded(i);
                u64::from(across) * u64::from(down) * (64 * 2 + 8)
            })
            .sum()
    }

    fn most(&self) -> (u32, u32) {
        let most = |of: fn(&Component) -> u32| self.components.iter().map(of).max().unwrap_or(1).max(1);
        (most(|c| c.across), most(|c| c.down))
    }

    /// Minimum coded units across and down of a scan with several components.
    fn units(&self) -> (u32, u32) {
        let (across, down) = self.most();
        (self.width.div_ceil(8 * across), self.height.div_ceil(8 * down))
    }

    /// Blocks across and down of a component, whole units.
    fn padded(&self, i: usize) -> (u32, u32) {
        let (units, component) = (self.units(), &self.components[i]);
        (units.0 * component.across, units.1 * component.down)
    }

    /// Blocks across and down of a component in a scan of its own.
    fn blocks(&self, i: usize) -> (u32, u32) {
        let ((across, down), component) = (self.most(), &self.components[i]);
        let blocks = |length: u32, factor: u32, most: u32| (length * factor).div_ceil(most).div_ceil(8);
        (blocks(self.width, component.across, across), blocks(self.height, component.down, down))
    }
}

/// The header of `bytes` up to its first scan: the frame, and the EXIF block if there is one.
///
/// # Errors
/// A reason for kinds that are not read here and for headers that end early.
pub(super) fn header(bytes: &[u8]) -> Outcome<(Frame, Option<&[u8]>)> {
    let mut walk = Walk::new(bytes);
    let mut exif = None;
    loop {
        match walk.marker() {
            Some(0xda) | None => break,
            Some(0xe1) => {
                let payload = walk.payload()?;
                exif = exif.or_else(|| payload.strip_prefix(b"Exif\0\0".as_slice()));
            }
            Some(marker) => walk.segment(marker)?,
        }
    }
    walk.frame.map(|frame| (frame, exif)).ok_or_else(|| CUT.to_owned())
}

/// Whether the end marker is there. `tables` are segments that stand outside `bytes` (TIFF keeps them apart).
///
/// # Errors
/// A reason if data are missing or damaged.
pub(super) fn check(tables: &[u8], bytes: &[u8]) -> Outcome<bool> {
    let mut walk = Walk::new(tables);
    while let Some(marker) = walk.marker() {
        walk.segment(marker)?;
    }
    walk.bits = Bits::new(bytes);
    loop {
        match walk.marker() {
            Some(0xd9) => return walk.complete(false).map(|()| true),
            // Without the end marker nothing says that the encoder wrote no more scans.
            None => return walk.complete(true).map(|()| false),
            Some(0xda) => walk.scan()?,
            Some(marker) => walk.segment(marker)?,
        }
    }
}

/// Bits known of a component's coefficients.
#[derive(Debug, Clone)]
struct Coded {
    /// Bits still missing below each coefficient, in zigzag order; `None` before its first scan.
    missing: [Option<u8>; 64],
    /// Progressive pictures: a bit for each coefficient of a block that is not zero.
    nonzero: Vec<u64>,
}

/// One component of one scan.
struct Part {
    component: usize,
    dc: usize,
    ac: usize,
}

/// One block of a unit: its place in the unit, and the blocks of a unit and of a row of its component.
struct Step {
    part: usize,
    x: u32,
    y: u32,
    across: u32,
    down: u32,
    stride: u32,
}

/// A scan's share of the coefficients (T.81, B.2.3).
#[derive(Clone, Copy)]
struct Spectrum {
    first: usize,
    last: usize,
    high: u8,
    low: u8,
}

struct Walk<'a> {
    bits: Bits<'a>,
    dc: [Option<Table>; 4],
    ac: [Option<Table>; 4],
    /// Units between two restart markers; 0 if there are none.
    restart: u32,
    frame: Option<Frame>,
    coded: Vec<Coded>,
    scans: u32,
}

impl<'a> Walk<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        Self {
            bits: Bits::new(bytes),
            dc: [const { None }; 4],
            ac: [const { None }; 4],
            restart: 0,
            frame: None,
            coded: Vec::new(),
            scans: 0,
        }
    }

    /// The next marker's code; what stands before it is skipped, as decoders do.
    fn marker(&mut self) -> Option<u8> {
        self.bits.next_marker()
    }

    fn payload(&mut self) -> Outcome<&'a [u8]> {
        self.bits.segment().ok_or_else(|| CUT.to_owned())
    }

    /// Reads the segment of `marker`, or passes over it.
    fn segment(&mut self, marker: u8) -> Outcome<()> {
        match marker {
            // Start and end of the picture, restarts and the marker without a meaning have no length.
            0x01 | 0xd0..=0xd9 => return Ok(()),
            0xc4 => {
                let payload = self.payload()?;
                return self.tables(payload);
            }
            0xc0..=0xc2 => {
                let payload = self.payload()?;
                return self.start_frame(payload, marker == 0xc2);
            }
            0xc3 | 0xc7 | 0xcb | 0xcf => return Err(unread("lossless")),
            0xc5 | 0xc6 | 0xcd | 0xce => return Err(unread("hierarchical")),
            0xc9 | 0xca => return Err(unread("arithmetic-coded")),
            0xdd => {
                if let [high, low, ..] = self.payload()? {
                    self.restart = u32::from(*high) << 8 | u32::from(*low);
                }
                return Ok(());
            }
            _ => {}
        }
        self.payload().map(drop)
    }

    fn tables(&mut self, mut payload: &[u8]) -> Outcome<()> {
        while let Some((&head, rest)) = payload.split_first() {
            let (counts, rest) = rest.split_first_chunk::<16>().ok_or(CUT)?;
            let total = counts.iter().map(|&n| usize::from(n)).sum();
            let symbols = rest.get(..total).ok_or(CUT)?;
            let place = match head >> 4 {
                0 => self.dc.get_mut(usize::from(head & 15)),
                _ => self.ac.get_mut(usize::from(head & 15)),
            };
            *place.ok_or(DAMAGED)? = Some(Table::new(counts, symbols)?);
            payload = &rest[total..];
        }
        Ok(())
    }

    fn start_frame(&mut self, payload: &[u8], progressive: bool) -> Outcome<()> {
        if self.frame.is_some() {
            return Err(DAMAGED.into());
        }
        let [precision, h1, h0, w1, w0, count, rest @ ..] = payload else { return Err(CUT.into()) };
        if *precision != 8 {
            return Err(unread(&format!("{precision}-bit")));
        }
        let components: Vec<Component> = rest
            .as_chunks()
            .0
            .iter()
            .take(usize::from(*count))
            .map(|&[id, sides, _]| Component {
                id,
                across: u32::from(sides >> 4),
                down: u32::from(sides & 15),
            })
            .collect();
        let fits = |n: u32| (1..=4).contains(&n);
        if components.len() != usize::from(*count)
            || components.is_empty()
            || components.iter().any(|c| !fits(c.across) || !fits(c.down))
        {
            return Err(DAMAGED.into());
        }
        let frame = Frame {
            width: u32::from(*w1) << 8 | u32::from(*w0),
            height: u32::from(*h1) << 8 | u32::from(*h0),
            progressive,
            components,
        };
        if frame.height == 0 {
            return Err("its height is not in the header, and such JPEG files are not read here; save it again with another program".into());
        }
        self.frame = Some(frame);
        Ok(())
    }

    /// Every component has the coefficients that the picture needs, and all of them if `all`.
    fn complete(&self, all: bool) -> Outcome<()> {
        let frame = self.frame.as_ref().ok_or(CUT)?;
        let needed = if all { 64 } else { 1 };
        let whole = |coded: &Coded| {
            coded.missing[..needed].iter().all(|missing| missing.is_some_and(|bits| !all || bits == 0))
        };
        match self.coded.len() == frame.components.len() && self.coded.iter().all(whole) {
            true => Ok(()),
            false => Err("cut short: scans are missing; get the whole file".into()),
        }
    }

    fn scan(&mut self) -> Outcome<()> {
        let payload = self.payload()?;
        let frame = self.frame.clone().ok_or(DAMAGED)?;
        self.scans += 1;
        if self.scans > MAX_SCANS {
            return Err(format!("has more than {MAX_SCANS} scans; save it again with another program"));
        }
        if self.coded.is_empty() {
            let blocks = |i: usize| match frame.progressive {
                true => frame.padded(i).0 as usize * frame.padded(i).1 as usize,
                false => 0,
            };
            let coded = |i| Coded { missing: [None; 64], nonzero: vec![0; blocks(i)] };
            self.coded = (0..frame.components.len()).map(coded).collect();
        }
        let (parts, spectrum) = parts(payload, &frame)?;
        for part in &parts {
            let missing = &mut self.coded[part.component].missing[spectrum.first..=spectrum.last];
            for bits in missing {
                // A scan that refines needs the one before it.
                if spectrum.high != 0 && *bits != Some(spectrum.high) {
                    return Err("cut short: a scan is missing; get the whole file".into());
                }
                *bits = Some(spectrum.low);
            }
        }
        let (across, down, steps) = match parts.as_slice() {
            [part] => {
                let (across, down) = frame.blocks(part.component);
                let stride = frame.padded(part.component).0;
                (across, down, vec![Step { part: 0, x: 0, y: 0, across: 1, down: 1, stride }])
            }
            _ => {
                let steps = |(part, at): (usize, &Part)| {
                    let Component { across, down, .. } = frame.components[at.component];
                    let stride = frame.padded(at.component).0;
                    (0..across * down).map(move |i| Step {
                        part,
                        x: i % across,
                        y: i / across,
                        across,
                        down,
                        stride,
                    })
                };
                let (across, down) = frame.units();
                (across, down, parts.iter().enumerate().flat_map(steps).collect())
            }
        };
        self.bits.begin();
        let mut run = 0;
        for unit in 0..across * down {
            if self.restart > 0 && unit > 0 && unit.is_multiple_of(self.restart) {
                self.bits.restart(unit / self.restart - 1)?;
                run = 0;
            }
            for step in &steps {
                let (column, row) = (unit % across, unit / across);
                let place = (row * step.down + step.y) * step.stride + column * step.across + step.x;
                self.block(&parts[step.part], place as usize, frame.progressive, spectrum, &mut run)?;
            }
        }
        Ok(())
    }

    fn block(
        &mut self,
        part: &Part,
        place: usize,
        progressive: bool,
        spectrum: Spectrum,
        run: &mut u32,
    ) -> Outcome<()> {
        let dc = || self.dc[part.dc].as_ref().ok_or(DAMAGED);
        let ac = || self.ac[part.ac].as_ref().ok_or(DAMAGED);
        let range = (spectrum.first, spectrum.last);
        match (progressive, spectrum.first, spectrum.high) {
            (false, ..) => self.bits.block(dc()?, ac()?),
            (true, 0, 0) => self.bits.dc(dc()?),
            (true, 0, _) => self.bits.skip(1),
            (true, _, high) => {
                let nonzero = self.coded[part.component].nonzero.get_mut(place).ok_or(DAMAGED)?;
                match high {
                    0 => self.bits.ac_first(ac()?, range, run, nonzero),
                    _ => self.bits.ac_refine(ac()?, range, run, nonzero),
                }
            }
        }
    }
}

/// The components of a scan and its share of the coefficients.
fn parts(payload: &[u8], frame: &Frame) -> Outcome<(Vec<Part>, Spectrum)> {
    let (&count, rest) = payload.split_first().ok_or(CUT)?;
    let count = usize::from(count);
    if count == 0 || count > frame.components.len() || rest.len() < 2 * count + 3 {
        return Err(DAMAGED.into());
    }
    let part = |&[id, tables]: &[u8; 2]| -> Outcome<Part> {
        let component = frame.components.iter().position(|c| c.id == id).ok_or(DAMAGED)?;
        let (dc, ac) = (usize::from(tables >> 4), usize::from(tables & 15));
        if dc > 3 || ac > 3 { Err(DAMAGED.into()) } else { Ok(Part { component, dc, ac }) }
    };
    let parts = rest[..2 * count].as_chunks().0.iter().map(part).collect::<Outcome<Vec<_>>>()?;
    let tail = &rest[2 * count..];
    let spectrum = match frame.progressive {
        false => Spectrum { first: 0, last: 63, high: 0, low: 0 },
        true => Spectrum {
            first: usize::from(tail[0]),
            last: usize::from(tail[1]),
            high: tail[2] >> 4,
            low: tail[2] & 15,
        },
    };
    let Spectrum { first, last, .. } = spectrum;
    // A progressive scan has either first coefficients, or others of one component (T.81, G.1.1.1).
    let lawful = !frame.progressive
        || (first == 0 && last == 0)
        || (first > 0 && first <= last && last < 64 && count == 1);
    if lawful { Ok((parts, spectrum)) } else { Err(DAMAGED.into()) }
}

fn unread(kind: &str) -> String {
    format!(
        "a {kind} JPEG, which is not read here; convert it first, for instance with `magick in.jpg out.png`"
    )
}

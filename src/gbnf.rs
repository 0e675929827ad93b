//! Bounds on a GBNF grammar before the library sees it: its parser recurses with every bracket and writes out
//! every repetition. The sampler checks them for every caller, and the readers of requests check them early.

use crate::error::{Error, Field, Result};

/// Brackets inside one another.
const DEEPEST: usize = 100;
const MOST_RULES: usize = 2000;
/// Elements after all repetitions are written out.
const LARGEST: u64 = 100_000;

/// # Errors
/// Kind `Usage` that says which bound is passed.
pub fn check(grammar: &str) -> Result<()> {
    let rules = grammar.matches("::=").count();
    if rules > MOST_RULES {
        return Err(too_large(format!("{rules} rules, the limit is {MOST_RULES}")));
    }
    let mut scan = Scan { groups: vec![Group::default()], total: 0 };
    let mut letters = grammar.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '#' => while letters.next_if(|c| *c != '\n').is_some() {},
            '"' | '[' => {
                let end = if letter == '"' { '"' } else { ']' };
                let mut length = 0;
                while let Some(inside) = letters.next() {
                    match inside {
                        '\\' => drop(letters.next()),
                        _ if inside == end => break,
                        _ => {}
                    }
                    length += 1;
                }
                scan.element(length.max(1));
            }
            '(' => scan.open()?,
            ')' => scan.close(),
            '{' => {
                let inside: String = std::iter::from_fn(|| letters.next_if(|c| *c != '}')).collect();
                scan.repeat(&inside);
            }
            letter if letter.is_alphanumeric() || letter == '-' || letter == '_' || letter == '.' => {
                while letters.next_if(|c| c.is_alphanumeric() || matches!(c, '-' | '_')).is_some() {}
                scan.element(1);
            }
            _ => {}
        }
        if scan.total > LARGEST {
            return Err(too_large(format!(
                "repetitions make it larger than {LARGEST} elements; repeat less"
            )));
        }
    }
    Ok(())
}

fn too_large(what: String) -> Error {
    Error::usage(format!("{}: {what}", Field::Grammar))
}

#[derive(Default)]
struct Group {
    size: u64,
    /// Size of the item that a repetition behind it would repeat.
    last: u64,
}

struct Scan {
    groups: Vec<Group>,
    /// Largest size seen: of the whole, or of a group before it is closed.
    total: u64,
}

impl Scan {
    fn element(&mut self, size: u64) {
        if let Some(group) = self.groups.last_mut() {
            group.size = group.size.saturating_add(size);
            group.last = size;
            self.total = self.total.max(group.size);
        }
    }

    fn open(&mut self) -> Result<()> {
        self.groups.push(Group::default());
        if self.groups.len() > DEEPEST {
            return Err(too_large(format!("brackets deeper than {DEEPEST}; flatten them")));
        }
        Ok(())
    }

    /// The library reports a bracket too many.
    fn close(&mut self) {
        if self.groups.len() > 1
            && let Some(group) = self.groups.pop()
        {
            self.element(group.size);
        }
    }

    /// Reads `m`, `m,` or `m,n`: the larger number counts.
    fn repeat(&mut self, inside: &str) {
        let times = inside.split(',').map(|number| match number.trim() {
            "" => 1,
            number => number.parse::<u64>().unwrap_or(u64::MAX),
        });
        let times = times.max().unwrap_or(1);
        if let Some(group) = self.groups.last_mut() {
            let size = group.last.saturating_mul(times);
            group.size = group.size.saturating_add(size);
            group.last = size;
            self.total = self.total.max(group.size);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_grammars_pass() {
        for grammar in [
            "",
            "root ::= \"yes\" | \"no\"",
            "root ::= [0-9]{4} \"-\" [0-9]{2} \"-\" [0-9]{2} # a {99999999} date\n",
            "root ::= (\"a\" | [^\"\\]]{1,3}){2,} tail\ntail ::= \"{9999999}\" \"\\\"{9999999}\"",
            ")))",
            "root ::= {",
        ] {
            assert_eq!(check(grammar), Ok(()), "{grammar}");
        }
        let json = include_str!("../tests/serve/json.gbnf");
        assert_eq!(check(json), Ok(()));
    }

    #[test]
    fn explosions_do_not() {
        for (grammar, part) in [
            (format!("root ::= {}\"a\"{}", "(".repeat(200), ")".repeat(200)), "deeper than 100"),
            ("root ::= \"a\"{1000000}".into(), "repeat less"),
            ("root ::= ((\"a\"{999}){999}){999}".into(), "repeat less"),
            ("root ::= \"a\"{500}{500}".into(), "repeat less"),
            ("root ::= \"a\"{1,99999999999999999999999}".into(), "repeat less"),
            ("a ::= b\n".repeat(3000), "2000"),
        ] {
            let error = check(&grammar).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
        }
    }
}

//! [`Line`]: what a user gave to a program of OpenSSH.

use std::ffi::OsString;

use crate::args::{Kind, OpenSsh, kinds};

/// The words, by what they are for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    /// From both sides of a target, in their order: ssh reads them as one list.
    pub(super) options: Vec<OsString>,
    /// The target of ssh, or the files.
    pub(super) operands: Vec<OsString>,
    /// What ssh runs over there, with the `--` in front if there was one.
    pub(super) command: Vec<OsString>,
}

impl Line {
    pub(super) fn read(program: OpenSsh, words: Vec<OsString>) -> Self {
        let mut line = Self { options: Vec::new(), operands: Vec::new(), command: Vec::new() };
        for (kind, word) in kinds(program, &words, |_| false) {
            let words = match kind {
                Kind::Operand => &mut line.operands,
                Kind::Command => &mut line.command,
                Kind::Option | Kind::Ours => &mut line.options,
            };
            words.push(word.clone());
        }
        line
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_both_sides_are_one_list() {
        let words = |text: &str| -> Vec<OsString> { text.split_whitespace().map(Into::into).collect() };
        let line = Line::read(OpenSsh::Ssh, words("-p 2222 me@web -vL 80:db:80 -- -x -y"));
        assert_eq!(line.options, words("-p 2222 -vL 80:db:80"));
        assert_eq!((line.operands, line.command), (words("me@web"), words("-- -x -y")));
        let line = Line::read(OpenSsh::Scp, words("-rP 2222 a -b web:c"));
        assert_eq!((line.options, line.operands), (words("-rP 2222"), words("a -b web:c")));
    }
}

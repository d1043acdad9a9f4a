//! The printed table.

/// A line: what it is, the figure, and what else is to say.
pub fn line(what: &str, figure: &str, rest: &str) {
    println!("{what:<54} {figure:>14}  {rest}");
}

/// A heading.
pub fn heading(text: &str) {
    println!("-- {text}");
}

//! What was probably meant.

use std::collections::HashSet;

/// How alike two names are, from 0 to 1, by the single-character edits between them; 0 if they share no two
/// neighbouring characters.
pub fn similarity(a: &str, b: &str) -> f64 {
    let (a, b): (Vec<char>, Vec<char>) = (a.to_lowercase().chars().collect(), b.to_lowercase().chars().collect());
    let grams = |text: &[char]| -> HashSet<(char, char)> {
        let framed: Vec<char> = ['-'].iter().chain(text).chain(&['-']).copied().collect();
        framed.windows(2).map(|pair| (pair[0], pair[1])).collect()
    };
    let longest = a.len().max(b.len());
    if longest == 0 || grams(&a).is_disjoint(&grams(&b)) {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "names are short")]
    let distance = edits(&a, &b) as f64 / longest as f64;
    1.0 - distance
}

/// The most alike of some names, if it is alike enough.
pub fn closest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>, at_least: f64) -> Option<&'a str> {
    let mut best: Option<(f64, &str)> = None;
    for name in names {
        let score = similarity(wanted, name);
        let better = best.is_none_or(|(best, known)| score > best || (score.total_cmp(&best).is_eq() && name < known));
        if score >= at_least && better {
            best = Some((score, name));
        }
    }
    best.map(|(_, name)| name)
}

/// The least number of insertions, deletions and replacements from one text to the other.
fn edits(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closest_name_is_found() {
        let names = ["projects", "clients", "tasks"];
        assert_eq!(closest("project", names.into_iter(), 0.75), Some("projects"));
        assert_eq!(closest("zzz", names.into_iter(), 0.1), None);
        assert!((similarity("tasks", "tasks") - 1.0).abs() < f64::EPSILON);
        assert_eq!(edits(&['a', 'b'], &['b']), 1);
    }
}

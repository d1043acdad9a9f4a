//! What was probably meant: the guesses PostgREST makes, which are those of the method called `fuzzyset`.

use std::collections::BTreeMap;

/// How many of the names with the most in common are looked at closely.
const CANDIDATES: usize = 50;

/// The most alike of some names, if it is alike enough: from 0 to 1 by the single-character edits between the two.
/// Names that share no three neighbouring characters are only looked at if no name that does is alike enough, then
/// with two.
pub fn closest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>, at_least: f64) -> Option<&'a str> {
    let names: Vec<(&str, String)> = names.map(|name| (name, name.to_lowercase())).collect();
    let wanted = wanted.to_lowercase();
    if let Some((name, _)) = names.iter().find(|(_, known)| *known == wanted) {
        return Some(name);
    }
    [3, 2].into_iter().find_map(|size| {
        let own = grams(&wanted, size);
        let mut candidates: Vec<_> = names
            .iter()
            .map(|(name, known)| (cosine(&own, &grams(known, size)), *name, known))
            .filter(|(common, ..)| *common > 0.0)
            .collect();
        candidates.sort_by(|one, other| other.0.total_cmp(&one.0).then(one.1.cmp(other.1)));
        let mut best: Option<(f64, &str)> = None;
        for (_, name, known) in candidates.into_iter().take(CANDIDATES) {
            let score = alike(&wanted, known);
            if score >= at_least && best.is_none_or(|(best, _)| score > best) {
                best = Some((score, name));
            }
        }
        best.map(|(_, name)| name)
    })
}

/// How often each run of so many characters is in a name, without what is no part of a word.
fn grams(name: &str, size: usize) -> BTreeMap<Vec<char>, f64> {
    let word = |c: &char| c.is_alphanumeric() || c.is_whitespace() || *c == ',';
    let framed: Vec<char> = ['-']
        .into_iter()
        .chain(name.chars().filter(word))
        .chain(['-'])
        .collect();
    let mut grams = BTreeMap::new();
    for gram in framed.windows(size) {
        *grams.entry(gram.to_vec()).or_default() += 1.0;
    }
    grams
}

/// How much two names have in common: the cosine of the angle between their grams.
fn cosine(a: &BTreeMap<Vec<char>, f64>, b: &BTreeMap<Vec<char>, f64>) -> f64 {
    let length = |grams: &BTreeMap<_, f64>| grams.values().map(|count| count * count).sum::<f64>().sqrt();
    let product: f64 = a.iter().filter_map(|(gram, count)| Some(count * b.get(gram)?)).sum();
    if product > 0.0 {
        product / (length(a) * length(b))
    } else {
        0.0
    }
}

fn alike(a: &str, b: &str) -> f64 {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    #[expect(clippy::cast_precision_loss, reason = "names are short")]
    let distance = edits(&a, &b) as f64 / a.len().max(b.len()).max(1) as f64;
    1.0 - distance
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
        assert_eq!(closest("TASKS", names.into_iter(), 1.0), Some("tasks"));
        assert_eq!(edits(&['a', 'b'], &['b']), 1);
    }

    #[test]
    fn three_characters_in_common_outweigh_two() {
        let names = ["abcdzzzzzzzz", "xbcyex"];
        assert_eq!(closest("abcdef", names.into_iter(), 0.3), Some("abcdzzzzzzzz"));
        assert_eq!(closest("abcdef", names.into_iter(), 0.4), Some("xbcyex"));
    }

    #[test]
    fn what_joins_words_is_no_difference_in_what_is_shared() {
        assert_eq!(closest("a_b", ["ab"].into_iter(), 0.6), Some("ab"));
        assert_eq!(closest("é", ["é"].into_iter(), 1.0), Some("é"));
        assert_eq!(closest("_", ["__"].into_iter(), 0.1), Some("__"));
        assert_eq!(closest("", [""; 0].into_iter(), 0.1), None);
    }
}

//! The Python literals in the header of a `.npy` file.

/// The entries of `{'key': value, …}`, values as they are written. `None` if it is no such thing.
pub(super) fn entries(text: &str) -> Option<Vec<(&str, &str)>> {
    let mut rest = text.trim().strip_prefix('{')?.trim_start();
    let mut entries = Vec::new();
    loop {
        if let Some(after) = rest.strip_prefix('}') {
            return after.is_empty().then_some(entries);
        }
        let (key, after) = split(rest, ':')?;
        let key = quoted(key.trim())?;
        let (value, after) = split(after.strip_prefix(':')?, ',')?;
        entries.push((key, value.trim()));
        rest = after.strip_prefix(',').unwrap_or(after).trim_start();
    }
}

/// What is between quotes, without escapes.
pub(super) fn quoted(text: &str) -> Option<&str> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
    let inner = text.strip_prefix(quote)?.strip_suffix(quote)?;
    (!inner.contains([quote, '\\'])).then_some(inner)
}

/// The numbers of a tuple: `()`, `(2,)`, `(2, 3)`.
pub(super) fn tuple(text: &str) -> Option<Vec<usize>> {
    let inner = text.strip_prefix('(')?.strip_suffix(')')?.trim();
    if inner.is_empty() {
        return Some(Vec::new());
    }
    let trimmed = inner.strip_suffix(',');
    // One number in brackets is a number.
    if trimmed.is_none() && !inner.contains(',') {
        return None;
    }
    // Python 2 marked long numbers.
    let number = |text: &str| text.trim().trim_end_matches('L').parse().ok();
    trimmed.unwrap_or(inner).split(',').map(number).collect()
}

/// Cuts before a character, or before the bracket that closes what `text` is in, that is in no bracket and no quotes.
fn split(text: &str, at: char) -> Option<(&str, &str)> {
    let (mut depth, mut quote, mut escaped) = (0_usize, None, false);
    for (index, c) in text.char_indices() {
        match (quote, c) {
            (Some(_), _) if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"') => quote = Some(c),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') if depth > 0 => depth -= 1,
            (None, ')' | ']' | '}') => return Some(text.split_at(index)),
            (None, _) if c == at && depth == 0 => return Some(text.split_at(index)),
            (None, _) => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_taken_apart() {
        let text = "{'descr': [('a,:}', '<i4'), ('b', '<f8', (2,))], \"x\":( 2, 3) ,'y': True}  \n";
        let expected =
            vec![("descr", "[('a,:}', '<i4'), ('b', '<f8', (2,))]"), ("x", "( 2, 3)"), ("y", "True")];
        assert_eq!(entries(text), Some(expected));
        assert_eq!(entries("{}"), Some(vec![]));
        for broken in
            ["", "{", "{'a'}", "{'a': 1", "{a: 1}", "{'a': 1}}", "{'a': '1}", "[1]", "{'a': 1} b", "{'é"]
        {
            assert_eq!(entries(broken), None, "{broken}");
        }
    }

    #[test]
    fn tuples_are_read() {
        assert_eq!(tuple("()"), Some(vec![]));
        assert_eq!(tuple("(2,)"), Some(vec![2]));
        assert_eq!(tuple("( 2, 3L )"), Some(vec![2, 3]));
        for broken in ["(2)", "(,)", "(-1,)", "(2,,)", "[2]", "(2", "(a,)", "(99999999999999999999,)"] {
            assert_eq!(tuple(broken), None, "{broken}");
        }
    }
}

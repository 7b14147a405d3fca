//! Finds the imports and paths in a Rust source file, without its tests.

use std::collections::BTreeMap;

/// The names that a module imports, each with the imported path.
pub(super) type Uses = BTreeMap<String, Vec<String>>;

/// The imports and paths of a source file: without comments, literals and items under
/// `#[cfg(test)]`.
pub(super) struct Code {
    /// The imported names.
    pub uses: Uses,
    /// Every path in the code, including those of imports.
    pub paths: Vec<Vec<String>>,
    /// Names of the modules that are declared under `#[cfg(test)]`.
    pub test_modules: Vec<String>,
}

/// Parses the text of a source file.
pub(super) fn code(text: &str) -> Code {
    let (code, test_modules) = without_tests(&tokens(text));
    let (uses, paths) = paths_in(&code);
    Code {
        uses,
        paths,
        test_modules,
    }
}

/// Splits code into names, `::` and single signs; leaves out comments, strings and characters.
fn tokens(text: &str) -> Vec<&str> {
    let of_word = |c: char| c.is_alphanumeric() || c == '_';
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            comment_length(rest)
        } else if first == '"' {
            string_length(rest)
        } else if first == '\'' {
            character_length(rest)
        } else if let Some(length) = raw_string_length(rest) {
            length
        } else if of_word(first) {
            let length = rest.find(|c| !of_word(c)).unwrap_or(rest.len());
            found.push(&rest[..length]);
            length
        } else if rest.starts_with("::") {
            found.push("::");
            2
        } else {
            if !first.is_whitespace() {
                found.push(&rest[..first.len_utf8()]);
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    found
}

/// Length in bytes of the block comment at the start of `text`, including nested comments.
fn comment_length(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        if text[at..].starts_with("/*") {
            depth += 1;
            at += 2;
        } else if text[at..].starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += text[at..].chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// Length in bytes of the string literal at the start of `text`.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// Length in bytes of the character literal at the start of `text`; 1 for the quote of a lifetime.
fn character_length(text: &str) -> usize {
    let mut characters = text.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => {
            let end = characters.skip(1).find(|(_, c)| *c == '\'');
            end.map_or(text.len(), |(at, _)| at + 1)
        }
        _ => match characters.next() {
            Some((at, '\'')) => at + 1,
            _ => 1,
        },
    }
}

/// Length in bytes of the raw string literal at the start of `text`; `None` if there is none.
fn raw_string_length(text: &str) -> Option<usize> {
    let prefix = ["r", "br", "cr"].into_iter().find(|prefix| {
        let quoted = text.strip_prefix(prefix);
        quoted.is_some_and(|quoted| quoted.trim_start_matches('#').starts_with('"'))
    })?;
    let hashes = text[prefix.len()..].find('"')?;
    let open = prefix.len() + hashes + 1;
    let close = format!("\"{}", "#".repeat(hashes));
    let end = text[open..].find(&close);
    Some(end.map_or(text.len(), |end| open + end + close.len()))
}

/// Returns (the tokens without items under `#[cfg(test)]`, names of the modules that are declared
/// under it).
fn without_tests<'a>(tokens: &[&'a str]) -> (Vec<&'a str>, Vec<String>) {
    let mut code = Vec::new();
    let mut test_modules = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        let ahead = &tokens[at..];
        let of_tests = ahead.starts_with(&["#", "[", "cfg", "(", "test", ")", "]"])
            || ahead.starts_with(&["#", "[", "cfg", "(", "all", "(", "test"]);
        if !of_tests {
            code.push(tokens[at]);
            at += 1;
            continue;
        }
        while tokens.get(at) == Some(&"#") {
            at += 1 + group_length(&tokens[at + 1..]);
        }
        let length = item_length(&tokens[at..]);
        let item = &tokens[at..at + length];
        let declared = item.iter().position(|token| *token == "mod");
        if let Some(name) = declared.and_then(|position| item.get(position + 1))
            && item.last() == Some(&";")
        {
            test_modules.push((*name).to_owned());
        }
        at += length;
    }
    (code, test_modules)
}

/// Number of tokens of the bracketed group at the start of `tokens`.
fn group_length(tokens: &[&str]) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match *token {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// Number of tokens of the item or statement at the start of `tokens`.
fn item_length(tokens: &[&str]) -> usize {
    let mut at = 0;
    while at < tokens.len() {
        match tokens[at] {
            ";" => return at + 1,
            // The bracket ends the block that contains the item.
            ")" | "]" | "}" => return at,
            "{" => {
                let end = at + group_length(&tokens[at..]);
                // `use a::{b, c};`
                return end + usize::from(tokens.get(end) == Some(&";"));
            }
            "(" | "[" => at += group_length(&tokens[at..]),
            _ => at += 1,
        }
    }
    tokens.len()
}

/// Returns (the imports of a module's code, all paths in it).
fn paths_in(code: &[&str]) -> (Uses, Vec<Vec<String>>) {
    let mut uses = Uses::new();
    let mut paths = Vec::new();
    let mut at = 0;
    while at < code.len() {
        if code[at] == "use" {
            let length = import_length(&code[at..]);
            let mut leaves = Vec::new();
            use_tree(&code[at + 1..at + length], &[], &mut leaves);
            for (name, path) in leaves {
                paths.push(path.clone());
                uses.insert(name, path);
            }
            at += length;
        } else if is_name(code[at]) {
            let mut path = vec![code[at].to_owned()];
            at += 1;
            while let ["::", name, ..] = &code[at..]
                && is_name(name)
            {
                path.push((*name).to_owned());
                at += 2;
            }
            if path.len() > 1 {
                paths.push(path);
            }
        } else {
            at += 1;
        }
    }
    (uses, paths)
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Number of tokens of the import at the start of `code`, without its semicolon.
fn import_length(code: &[&str]) -> usize {
    let end = code.iter().position(|token| *token == ";");
    end.unwrap_or(code.len())
}

/// Adds the names that an import such as `a::{self, b as c}` brings into scope to `leaves`, as
/// (name, full path). `prefix` is the path before `tree`.
fn use_tree(tree: &[&str], prefix: &[String], leaves: &mut Vec<(String, Vec<String>)>) {
    let mut path = prefix.to_vec();
    let mut at = 0;
    while at < tree.len() {
        match tree[at] {
            "{" => {
                let length = group_length(&tree[at..]);
                for branch in branches(&tree[at + 1..at + length - 1]) {
                    use_tree(branch, &path, leaves);
                }
                return;
            }
            "as" => {
                let name = tree.get(at + 1).copied().unwrap_or_default();
                leaves.push((name.to_owned(), path));
                return;
            }
            // `a::{self}` is `a`; a leading `self` stays.
            "self" if !path.is_empty() => {}
            name if is_name(name) => path.push(name.to_owned()),
            _ => {}
        }
        at += 1;
    }
    if let Some(name) = path.last().cloned() {
        leaves.push((name, path));
    }
}

/// Splits the content of an import's braces at its outer commas.
fn branches<'t, 'a>(group: &'t [&'a str]) -> Vec<&'t [&'a str]> {
    let mut depth = 0;
    let outer_comma = |token: &&str| {
        match *token {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        *token == "," && depth == 0
    };
    let parts = group.split(outer_comma);
    parts.filter(|part| !part.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::{code, tokens, without_tests};

    #[test]
    fn literals_comments_and_test_items_are_left_out() {
        let text = "a /* b /* c */ d */ 'e' 'f: '\\'' \"g \\\" h\" r#\"i\"j\"# br\"k\" l::m // n";
        assert_eq!(tokens(text), ["a", "f", ":", "l", "::", "m"]);
        let text = "#[cfg(test)] #[x] fn a(b: [u8; 2]) { c; } d #[cfg(all(test, e))] mod f; g";
        let (code, modules) = without_tests(&tokens(text));
        assert_eq!((code, modules), (vec!["d", "g"], vec!["f".to_owned()]));
    }

    #[test]
    fn an_import_gives_its_names_and_paths() {
        let code = code("pub(crate) use a::{self, b::{C as D}, e}; use f; fn g() { h::i(); }");
        let joined = |(name, path): (&String, &Vec<String>)| format!("{name} {}", path.join("::"));
        let uses: Vec<String> = code.uses.iter().map(joined).collect();
        assert_eq!(uses, ["D a::b::C", "a a", "e a::e", "f f"]);
        let paths: Vec<String> = code.paths.iter().map(|path| path.join("::")).collect();
        assert_eq!(paths, ["a", "a::b::C", "a::e", "f", "h::i"]);
    }
}

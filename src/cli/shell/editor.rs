//! The line editor of an interactive shell: history, and completion of commands and paths. Mirrors `JLineZNodeCompleter`.

use std::borrow::Cow;
use std::io;
use std::time::Duration;

use reedline::{
    ColumnarMenu, Completer, CompletionResult, Emacs, ExternalPrinter, KeyCode, KeyModifiers, MenuBuilder, Prompt,
    PromptEditMode, PromptHistorySearch, PromptHistorySearchStatus, Reedline, ReedlineEvent, ReedlineMenu, Signal,
    Span, Suggestion, default_emacs_keybindings,
};

use super::SharedClient;
use super::console::Console;
use super::interpreter::{Prompt as ShellPrompt, command_names};
use crate::types::path;

const MENU: &str = "completion_menu";
/// Most events that may wait for the editor to print them.
const EVENTS: usize = 4096;
/// How often the editor looks for events to print while the user types.
const POLL: Duration = Duration::from_millis(50);

/// The terminal's editor.
pub(super) struct Editor {
    reedline: Reedline,
    console: Console,
    events: std::sync::mpsc::SyncSender<String>,
}

impl Editor {
    pub(super) fn new(client: SharedClient, console: Console) -> Editor {
        let printer = ExternalPrinter::new(EVENTS);
        let events = printer.sender();
        let mut keys = default_emacs_keybindings();
        let menu_or_next =
            ReedlineEvent::UntilFound(vec![ReedlineEvent::Menu(MENU.to_owned()), ReedlineEvent::MenuNext]);
        keys.add_binding(KeyModifiers::NONE, KeyCode::Tab, menu_or_next);
        keys.add_binding(KeyModifiers::SHIFT, KeyCode::BackTab, ReedlineEvent::MenuPrevious);
        let reedline = Reedline::create()
            .with_completer(Box::new(Words { client }))
            .with_menu(ReedlineMenu::EngineCompleter(Box::new(ColumnarMenu::default().with_name(MENU))))
            .with_quick_completions(true)
            .with_partial_completions(true)
            .with_edit_mode(Box::new(Emacs::new(keys)))
            .with_external_printer(printer)
            .with_poll_interval(POLL);
        Editor { reedline, console, events }
    }

    /// The next line; `None` when the user wants to leave.
    pub(super) fn read(&mut self, prompt: ShellPrompt) -> io::Result<Option<String>> {
        self.console.edit(Some(self.events.clone()));
        let signal = self.reedline.read_line(&Plain(prompt));
        self.console.edit(None);
        Ok(match signal? {
            Signal::Success(line) => Some(line),
            _ => None,
        })
    }
}

/// zkCli's prompt, without decoration.
struct Plain(ShellPrompt);

impl Prompt for Plain {
    fn render_prompt_left(&self) -> Cow<'_, str> {
        Cow::Owned(self.0.to_string())
    }
    fn render_prompt_right(&self) -> Cow<'_, str> {
        Cow::Borrowed("")
    }
    fn render_prompt_indicator(&self, _: PromptEditMode) -> Cow<'_, str> {
        Cow::Borrowed("")
    }
    fn render_prompt_multiline_indicator(&self) -> Cow<'_, str> {
        Cow::Borrowed("> ")
    }
    fn render_prompt_history_search_indicator(&self, search: PromptHistorySearch) -> Cow<'_, str> {
        let failing = match search.status {
            PromptHistorySearchStatus::Passing => "",
            PromptHistorySearchStatus::Failing => "failing ",
        };
        Cow::Owned(format!("({failing}reverse-search: {}) ", search.term))
    }
}

/// Completes the word before the cursor: a path if it starts with `/`, else a command.
struct Words {
    client: SharedClient,
}

impl Words {
    fn nodes(&self, word: &str) -> Vec<String> {
        let Some(client) = self.client.get().filter(|c| c.state().is_connected()) else { return Vec::new() };
        let (dir, prefix) = split(word);
        // A path whose children cannot be listed has no completions.
        let Ok((mut names, _)) = client.get_children(dir, false) else { return Vec::new() };
        names.retain(|n| n.starts_with(prefix));
        names.sort();
        names.iter().map(|n| path::join(dir, n)).collect()
    }
}

/// Splits a path into its directory and the beginning of the name.
fn split(word: &str) -> (&str, &str) {
    match word.rfind('/') {
        Some(0) | None => (path::ROOT, word.trim_start_matches('/')),
        Some(at) => (&word[..at], &word[at + 1..]),
    }
}

impl Completer for Words {
    fn complete(&mut self, line: &str, pos: usize) -> CompletionResult {
        let before = line.get(..pos).unwrap_or(line);
        let start = before.rfind([' ', '\t']).map_or(0, |at| at + 1);
        let word = &before[start..];
        let values = if word.starts_with('/') {
            self.nodes(word)
        } else {
            command_names().into_iter().filter(|n| n.starts_with(word)).map(str::to_owned).collect()
        };
        let suggestions: Vec<Suggestion> = values
            .into_iter()
            .map(|value| Suggestion {
                // No blank after a path: the user may want to go on with a child.
                append_whitespace: !value.starts_with('/'),
                value,
                span: Span::new(start, before.len()),
                ..Suggestion::default()
            })
            .collect();
        CompletionResult::fresh(suggestions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_path_is_listed() {
        assert_eq!(split("/"), ("/", ""));
        assert_eq!(split("/ab"), ("/", "ab"));
        assert_eq!(split("/a/b"), ("/a", "b"));
        assert_eq!(split("/a/"), ("/a", ""));
    }

    #[test]
    fn commands_complete_without_a_session() {
        let mut words = Words { client: SharedClient::default() };
        let values = |r: CompletionResult| r.suggestions().iter().map(|s| s.value.clone()).collect::<Vec<_>>();
        assert_eq!(values(words.complete("getA", 4)), ["getAcl", "getAllChildrenNumber"]);
        assert!(values(words.complete("ls /", 4)).is_empty());
        let r = words.complete("xx de yy", 5);
        assert_eq!(values(r.clone()), ["delete", "deleteall", "delquota"]);
        assert_eq!((r.suggestions()[0].span.start, r.suggestions()[0].span.end), (3, 5));
    }
}

//! System messages of templates that have no place for them.

use super::{Message, Part, Role};

/// The messages with the system's texts as the head of the user's message behind them, or as one of their own.
pub(super) fn folded(messages: &[Message]) -> Vec<Message> {
    let mut turns: Vec<Message> = Vec::with_capacity(messages.len());
    let mut waiting: Vec<Part> = Vec::new();
    for message in messages {
        if message.role == Role::System {
            for part in &message.parts {
                waiting.extend([part.clone(), Part::Text("\n\n".into())]);
            }
            continue;
        }
        let own = std::mem::take(&mut waiting);
        if message.role == Role::User {
            turns.push(Message { role: Role::User, parts: [own, message.parts.clone()].concat() });
        } else {
            turns.extend((!own.is_empty()).then_some(Message { role: Role::User, parts: own }));
            turns.push(message.clone());
        }
    }
    turns.extend((!waiting.is_empty()).then_some(Message { role: Role::User, parts: waiting }));
    turns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::prompt::{Family, Piece, Template};

    fn show(pieces: &[Piece]) -> String {
        let shown = pieces.iter().map(|piece| match piece {
            Piece::Template(text) => text.clone(),
            Piece::Plain(text) => format!("[{text}]"),
            Piece::Image(number) => format!("{{{number}}}"),
        });
        shown.collect()
    }

    #[test]
    fn a_template_without_a_system_role() {
        let drops =
            "{% for m in messages %}{% if m.role == 'user' %}<{{ m.content }}>{% endif %}{% endfor %}";
        let refuses = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}{% for m in messages %}<{{ m.content }}>{% endfor %}";
        for source in [drops, refuses] {
            let template = Template::new(source, "", "").unwrap();
            let shown = |messages: &[Message]| show(&template.render(messages, Family::Llava).unwrap());
            let (system, user) = (Message::text(Role::System, "s"), Message::text(Role::User, "u"));
            assert_eq!(shown(&[system.clone(), user.clone()]), "<[s]\n\n[u]>");
            assert_eq!(shown(std::slice::from_ref(&system)), "<[s]\n\n>");
            let picture = Message { role: Role::User, parts: vec![Part::Image(0), Part::Text("u".into())] };
            assert_eq!(shown(&[system, picture]), "<[s]\n\n{0}[u]>");
        }
    }

    #[test]
    fn every_system_message_finds_a_turn() {
        let [system, user, assistant] =
            [Role::System, Role::User, Role::Assistant].map(|role| Message::text(role, role.name()));
        let turns = folded(&[system.clone(), assistant, system, user]);
        let roles: Vec<Role> = turns.iter().map(|turn| turn.role).collect();
        assert_eq!(roles, [Role::User, Role::Assistant, Role::User]);
        assert_eq!(turns[2].parts.len(), 3);
    }
}

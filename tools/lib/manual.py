"""Man pages from what `trivisor --experimental-dump-help` says of itself."""

import json
import re
import subprocess
import sys
from pathlib import Path


def escaped(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join(("\\&" + line if line[:1] in ".'" else line) for line in text.split("\n"))


def paragraphs(text):
    """A discussion: paragraphs, and lines that begin with blanks as they are."""
    out = []
    for line in text.strip("\n").split("\n"):
        if line.startswith("  "):
            if not out or not out[-1].startswith(".PP\n.nf"):
                out.append(".PP\n.nf")
            out[-1] += "\n" + escaped(line.rstrip())
        elif line.strip():
            out.append(".PP\n" + escaped(line))
    return "\n".join(part + ("\n.fi" if part.startswith(".PP\n.nf") else "") for part in out)


def named(argument):
    names = []
    for name in argument.get("names", []):
        dashes = "-" if name["kind"] == "short" else "--"
        names.append("\\fB" + escaped(dashes + name["name"]) + "\\fR")
    value = "" if argument["kind"] == "flag" else " \\fI" + escaped(argument["valueName"]) + "\\fR"
    if argument["kind"] == "positional":
        return "\\fI" + escaped(argument["valueName"]) + "\\fR"
    return ", ".join(names) + value


def listed(arguments):
    out = []
    for argument in arguments:
        text = argument.get("abstract", "")
        values = argument.get("allValues")
        if argument.get("defaultValue") and argument["kind"] == "option":
            text += f" Default: {argument['defaultValue']}."
        if values:
            text += f" Values: {', '.join(values)}."
        out.append(".TP\n" + named(argument) + "\n" + escaped(re.sub(r"\s+", " ", text).strip() or "See the help."))
    return "\n".join(out)


def page(command, title, version, date, others):
    shown = [argument for argument in command.get("arguments", []) if argument.get("shouldDisplay", True)]
    positional = [argument for argument in shown if argument["kind"] == "positional"]
    sections = {}
    for argument in shown:
        if argument["kind"] != "positional":
            sections.setdefault(argument.get("sectionTitle") or "Options", []).append(argument)
    words = title.replace("-", " ", 1) if title != "trivisor" else title
    synopsis = f".B {escaped(words)}\n"
    synopsis += "[\\fIoptions\\fR] " if sections else ""
    synopsis += " ".join(
        ("[\\fI{}\\fR]" if argument["isOptional"] else "\\fI{}\\fR").format(escaped(argument["valueName"]))
        + (" ..." if argument["isRepeating"] else "")
        for argument in positional
    )
    if command.get("subcommands"):
        synopsis += " \\fIcommand\\fR ..."
    parts = [
        f'.TH {title.upper()} 1 "{date}" "Trivisor {version}" "Trivisor"',
        f".SH NAME\n{escaped(title)} \\- {escaped(command['abstract'].rstrip('.'))}",
        f".SH SYNOPSIS\n{synopsis.strip()}",
        f".SH DESCRIPTION\n{paragraphs(command.get('discussion', '') or command['abstract'])}",
    ]
    if command.get("subcommands"):
        lines = [
            f".TP\n.BR {escaped('trivisor-' + sub['commandName'])} (1)\n{escaped(sub['abstract'])}"
            for sub in command["subcommands"] if sub["commandName"] != "help"
        ]
        parts.append(".SH COMMANDS\n" + "\n".join(lines))
    if positional:
        parts.append(".SH ARGUMENTS\n" + listed(positional))
    for name, arguments in sections.items():
        parts.append(f'.SH "{name.upper()}"\n' + listed(arguments))
    parts.append(".SH SEE ALSO\n" + ",\n".join(f".BR {escaped(other)} (1)" for other in others if other != title))
    return "\n".join(part for part in parts).replace("\n\n", "\n") + "\n"


def write(executable, folder, version, date):
    """One page for the program and one for each command."""
    text = subprocess.run([executable, "--experimental-dump-help"], check=True, capture_output=True, text=True).stdout
    root = json.loads(text)["command"]
    commands = {"trivisor": root}
    for sub in root["subcommands"]:
        if sub["commandName"] != "help":
            commands["trivisor-" + sub["commandName"]] = sub
    for title, command in commands.items():
        (Path(folder) / f"{title}.1").write_text(page(command, title, version, date, sorted(commands)))


if __name__ == "__main__":
    write(*sys.argv[1:5])

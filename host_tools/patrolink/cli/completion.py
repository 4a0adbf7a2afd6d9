"""Print the script that lets a shell complete verbs, options, boards, networks, groups, ports and files with Tab.

Load it from the start-up file of the shell, or save it where the shell looks for it:

  bash  eval "$(patrolink completion bash)" in ~/.bashrc
  zsh   eval "$(patrolink completion zsh)" in ~/.zshrc, after compinit
  fish  patrolink completion fish > ~/.config/fish/completions/patrolink.fish

Groups are completed from the hub if PATROLINK_HUB_TOKEN is set, else from the site.toml in the current folder.
"""

import argparse

from patrolink.core.json_lines import print_record

EXAMPLES = (
    "patrolink completion bash > ~/.local/share/bash-completion/completions/patrolink",
    "patrolink completion fish > ~/.config/fish/completions/patrolink.fish",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments to a parser."""
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell")


def run(args: argparse.Namespace) -> int:
    """Run the verb and return its exit code."""
    from argcomplete.shell_integration import shellcode

    script = shellcode(["patrolink"], use_defaults=False, shell=args.shell).strip()
    if args.json:
        print_record("completion", {"shell": args.shell, "text": script})
    else:
        print(script)
    return 0

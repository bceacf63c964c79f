"""Reading of TAP and KTAP: https://testanything.org, Documentation/dev-tools/ktap.rst of Linux."""

import re

from lib.jobs import Result, last_lines

PLAN = re.compile(r"^1\.\.(\d+)", re.M)
RESULT = re.compile(r"^(ok|not ok) (\d+)(?: -)? ?(.*?)[ \t]*(?:# *(SKIP)\b ?(.*))?$")


def judge(job, output, status, good_status):
    """Results of a job that prints TAP; a short or missing run fails too."""
    results = []
    comments = []
    for line in output.replace("\r", "").splitlines():
        match = RESULT.match(line)
        if match:
            verdict, _, name, directive, reason = match.groups()
            if verdict == "ok":
                result = Result(f"{job}: {name}", "skip" if directive else "pass", reason or "")
            else:
                result = Result(f"{job}: {name}", "fail", "\n".join(comments[-20:]))
            results.append(result)
            comments = []
        elif line.startswith("#") or "[  ERROR" in line or "runtime error" in line:
            comments.append(line)

    planned = sum(int(count) for count in PLAN.findall(output))
    failed = any(result.status == "fail" for result in results)
    if planned != len(results) or planned == 0:
        what = f"{len(results)} tests executed, {planned} planned, exit status {status}"
        what = f"{what}\n{last_lines(output)}"
        results.append(Result(f"{job}: all planned tests run", "fail", what))
    elif status != good_status and not failed:
        what = f"exit status {status}, expected {good_status}"
        results.append(Result(f"{job}: exit status", "fail", f"{what}\n{last_lines(output)}"))
    return results

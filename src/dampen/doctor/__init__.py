"""Finds what people get wrong with weight decay and dropout, in a live model and its optimizer."""

from dampen.doctor._diagnose import diagnose
from dampen.doctor._registry import CHECKS, Check, markdown_table
from dampen.doctor._report import Finding, Report

__all__ = ["CHECKS", "Check", "Finding", "Report", "diagnose", "markdown_table"]

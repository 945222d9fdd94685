@echo off
rem The same as scripts/test, for Windows; PYTHON names another Python.
setlocal
if not defined PYTHON set "PYTHON=py -3"
%PYTHON% "%~dp0setup.py" dev || exit /b 1
cd /d "%~dp0.."
.venv\Scripts\python.exe -m pytest %*
